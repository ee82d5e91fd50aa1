"""Issued invoices and credit notes, written row by row."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from models import database
from models.store import credit_note, drafting, invoice, invoice_list
from models.store.invoice_list import Wanted
from tasks.papers import accounts

PAGE: Final = 500
"""Documents that are held in memory at a time."""


class Writer(Protocol):
    """What the standard library's csv.writer gives."""

    def writerow(self, row: Iterable[Any], /) -> Any:
        """Write one row."""


def write(writer: Writer, wanted: Wanted) -> int:
    """Write the header and the rows of all documents; return how many documents there were."""
    writer.writerow(accounts.COLUMNS)
    return _invoices(writer, wanted) + _notes(writer, wanted)


def _invoices(writer: Writer, wanted: Wanted) -> int:
    written, after = 0, None
    while True:
        with database.transaction() as session:
            found = invoice_list.issued(session, wanted, limit=PAGE, after=after)
            drafted = drafting.get_all(session, [header for header, _ in found])
        for one in drafted:
            _rows(writer, accounts.of_invoice(one))
        written += len(found)
        if len(found) < PAGE:
            return written
        after = found[-1][1]


def _notes(writer: Writer, wanted: Wanted) -> int:
    written, after = 0, None
    while True:
        with database.transaction() as session:
            notes = invoice_list.notes_issued(session, wanted, limit=PAGE, after=after)
            lines = credit_note.lines(session, [note.id for note in notes])
            headers = invoice.get_all(session, [note.invoice_id for note in notes])
            billed = drafting.get_all(session, [headers[note.invoice_id] for note in notes])
        for note, one in zip(notes, billed, strict=True):
            _rows(writer, accounts.of_credit_note(note, lines[note.id], one))
        written += len(notes)
        if len(notes) < PAGE:
            return written
        after = (notes[-1].series, notes[-1].sequence)


def _rows(writer: Writer, rows: Iterable[accounts.Row]) -> None:
    for row in rows:
        writer.writerow(row[column] for column in accounts.COLUMNS)
