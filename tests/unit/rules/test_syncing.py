"""What a provider is told, in which order, whatever became of the invoice meanwhile."""

from uuid import UUID

import pytest

from models.rules import syncing
from models.rules.states import InvoiceState
from models.rules.syncing import Note, Standing

N1, N2 = UUID(int=1), UUID(int=2)


def told(standing: Standing, done: dict[str, str] | None = None) -> list[tuple[str, int]]:
    """Everything a provider is told from here on, one step after the other."""
    done, found = dict(done or {}), []
    while (todo := syncing.next_todo(standing, done)) is not None:
        found.append((todo.name, todo.amount_minor))
        done[todo.name] = "id"
    return found


FIRST = [("customer", 0), ("invoice", 0), ("items", 0), ("finalize", 0)]


@pytest.mark.parametrize(
    ("standing", "then"),
    [
        (Standing(InvoiceState.finalized, 0), []),
        (Standing(InvoiceState.finalized, 30), []),
        (Standing(InvoiceState.void, 0), [("void", 0)]),
        (Standing(InvoiceState.uncollectible, 0), [("write_off", 0)]),
        (Standing(InvoiceState.paid, 100), [("pay", 0)]),
        # nothing was due: it is paid there when it is final
        (Standing(InvoiceState.paid, 0), []),
        # credited before it was paid
        (Standing(InvoiceState.paid, 0, [Note(N1, 100, 0)]), [(f"credit_note:{N1}", 100)]),
        # 30 of 100 were paid, then all was taken back: 70 are not owed, 30 go back
        (
            Standing(InvoiceState.paid, 30, [Note(N1, 70, 30)]),
            [(f"credit_note:{N1}", 70), ("pay", 0), (f"refund_note:{N1}", 30)],
        ),
        # prepaid credit had paid 40 of it, of which the provider knows nothing
        (
            Standing(InvoiceState.paid, 60, [Note(N1, 0, 50), Note(N2, 0, 50)]),
            [("pay", 0), (f"refund_note:{N1}", 50), (f"refund_note:{N2}", 10)],
        ),
    ],
)
def test_what_is_told_follows_what_became_of_the_invoice(
    standing: Standing, then: list[tuple[str, int]]
) -> None:
    assert told(standing) == [*FIRST, *then]


def test_it_goes_on_with_what_is_missing() -> None:
    done = {"customer": "cus", "invoice": "in", "items": "in", "finalize": "in", "write_off": "in"}

    assert told(Standing(InvoiceState.paid, 5), done) == [("pay", 0)]
    assert told(Standing(InvoiceState.finalized, 0), {"customer": "cus"}) == FIRST[1:]


def test_a_key_is_the_same_for_a_step_and_no_other() -> None:
    keys = {
        syncing.key(step, invoice, series)
        for step in ("invoice", "items", f"credit_note:{N1}", f"credit_note:{N2}")
        for invoice in (str(N1), str(N2))
        for series in (1, 2)
    }

    assert len(keys) == 16
    assert syncing.key("items", str(N1), 1) == syncing.key("items", str(N1), 1)
    assert all(len(key) <= 255 for key in keys)
