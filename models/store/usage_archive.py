"""Archives of usage: what is due, what was written to which file, and what became of it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal
from models.rules.states import ArchiveState
from models.store import archive_lines
from models.usage_archive import UsageArchive


class UnknownArchive(Refusal):
    """No archive has this id, or no file of this name was written."""

    code: ClassVar[str] = "usage.unknown_archive"


class ArchiveNotWritten(Refusal):
    """Only a file whose events are all there still can be written again."""

    code: ClassVar[str] = "usage.archive_not_written"


@dataclass(frozen=True, slots=True)
class File:
    """What a file holds: of its compressed bytes, and of its events.

    Args:
        totals: for each metric how many events there are (`events`) and what their amounts come to
            (`amount`, a decimal as text).
    """

    name: str
    byte_count: int
    sha256: bytes
    event_count: int
    totals: dict[str, dict[str, Any]]
    first_at: dt.datetime | None
    last_at: dt.datetime | None


def claim(session: Session, state: ArchiveState, *, after: int = 0) -> UsageArchive | None:
    """Lock the next archive in a state that nobody else works on, by id; None if there is none.

    Args:
        after: the id after which to look.
    """
    return session.scalars(
        select(UsageArchive)
        .where(UsageArchive.state == state, UsageArchive.id > after)
        .order_by(UsageArchive.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    ).first()


def get(session: Session, archive_id: int) -> UsageArchive:
    """Return an archive.

    Raises:
        UnknownArchive: there is none by that id.
    """
    archive = session.get(UsageArchive, archive_id)
    if archive is None:
        raise _unknown(archive_id)
    return archive


def ids(session: Session, state: ArchiveState) -> Sequence[int]:
    """Return the archives in a state, oldest first."""
    return session.scalars(
        select(UsageArchive.id).where(UsageArchive.state == state).order_by(UsageArchive.id)
    ).all()


def find(session: Session, *, tenant_id: str | None, limit: int) -> Sequence[UsageArchive]:
    """Return archives, those of the latest months first.

    Args:
        tenant_id: of this tenant only; None for everyone's.
    """
    statement = select(UsageArchive)
    if tenant_id is not None:
        statement = statement.where(UsageArchive.tenant_id == tenant_id)
    newest = (UsageArchive.period_start.desc(), UsageArchive.tenant_id, UsageArchive.part)
    return session.scalars(statement.order_by(*newest).limit(limit)).all()


def named(session: Session, name: str) -> UsageArchive:
    """Return the archive whose file has this name, such as "acme-1a2b3c4d/2025-01-….jsonl.gz".

    Raises:
        UnknownArchive: there is none.
    """
    found = session.scalars(select(UsageArchive).where(UsageArchive.name == name)).first()
    if found is None:
        raise UnknownArchive(
            f"no archive of usage is named {name!r}; `billing usage archives` lists them",
            field="name",
        )
    return found


def with_files(session: Session, *, after: int, limit: int) -> Sequence[UsageArchive]:
    """Return archives that have a file, by id, from the one that follows `after`."""
    return session.scalars(
        select(UsageArchive)
        .where(UsageArchive.id > after, UsageArchive.name.is_not(None))
        .order_by(UsageArchive.id)
        .limit(limit)
    ).all()


def record(
    session: Session,
    archive: UsageArchive,
    file: File,
    *,
    last: archive_lines.Place | None,
    now: dt.datetime,
) -> None:
    """Say that a due archive is written, and make what comes after its last event due in turn."""
    archive.state = ArchiveState.written
    archive.written_at = now
    archive.name = file.name
    archive.byte_count = file.byte_count
    archive.sha256 = file.sha256
    archive.event_count = file.event_count
    archive.totals = file.totals
    archive.first_at, archive.last_at = file.first_at, file.last_at
    session.flush()
    if last is not None and archive_lines.has_more(session, archive, last):
        part = archive.part + 1
        after = {"after_metric": last.metric, "after_at": last.at, "after_id": last.id}
        # Written again, a part ends where it ended before: what follows it is due already.
        session.execute(ADD_PART, {"id": archive.id, "part": part, "now": now, **after})


def file_of(archive: UsageArchive) -> File:
    """Return what was recorded of an archive's file. It must have been written."""
    return File(
        name=str(archive.name),
        byte_count=archive.byte_count,
        sha256=archive.sha256 or b"",
        event_count=archive.event_count,
        totals=archive.totals,
        first_at=archive.first_at,
        last_at=archive.last_at,
    )


def write_again(session: Session, archive_id: int) -> UsageArchive:
    """Make an archive due whose file is lost or not what it was, and whose events are all there.

    Raises:
        UnknownArchive: there is none by that id.
        ArchiveNotWritten: its events may be gone, or it is due as it is.
    """
    archive = session.get(UsageArchive, archive_id, with_for_update=True)
    if archive is None:
        raise _unknown(archive_id)
    if archive.state != ArchiveState.written:
        raise ArchiveNotWritten(
            f"archive {archive_id} is {archive.state}; only one that is written and not verified "
            "yet can be written again",
            field="archive_id",
        )
    archive.state = ArchiveState.due
    archive.written_at = archive.name = archive.sha256 = None
    session.flush()
    return archive


def _unknown(archive_id: int) -> UnknownArchive:
    return UnknownArchive(
        f"no archive of usage has the id {archive_id}; `billing usage archives` lists them",
        field="archive_id",
    )


ADD_PART = text("""
    INSERT INTO usage_archives
        (tenant_id, period_start, period_end, timezone, part, after_metric, after_at, after_id,
         created_at)
    SELECT tenant_id, period_start, period_end, timezone, :part, :after_metric, :after_at,
           :after_id, :now
    FROM usage_archives WHERE id = :id
    ON CONFLICT (tenant_id, period_start, part) DO NOTHING
""")
