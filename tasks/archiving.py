"""Retention: usage that no invoice can need any more leaves for files, and its keys stay a while.

Each step is a state of an archive and can be repeated: a month is closed, its events are written to
files, a file is read back and compared with the events, the events go, and at last their keys. What
is interrupted goes on where it was at the next run.
"""

import time
from collections.abc import Iterator
from typing import TypedDict

import structlog

from models import database, failures
from models.rules import period
from models.rules.states import ArchiveState
from models.store import archive_lines, closing, standing, usage_archive
from models.store.archive_lines import Lines, Place
from models.usage_archive import UsageArchive
from tasks import archive_file, config, contract, fields, purging
from tasks.archive_run import Run
from tasks.queues import Queue

TENANTS_CHUNK = 100
"""Tenants whose standing one transaction looks at, and whose usage one transaction may close."""

EVENTS_OF_A_FILE = 100_000
"""A month of more events has several files: each is a few seconds' work, and can be repeated."""

TIME_BUDGET = 80.0
"""Seconds after which a run begins nothing further: below Celery's limits; beat rings again."""

log = structlog.get_logger(__name__)


class ArchiveAnswer(TypedDict):
    """What a run did.

    `closed` counts tenants whose horizon moved, `written` files, `purged` events, `forgotten` keys.
    `unsound` names files that are not what was written: nothing of them was purged. `finished` is
    false if time was up, or somebody else was in the way, before the work was done.
    """

    closed: int
    written: int
    purged: int
    forgotten: int
    unsound: list[str]
    finished: bool


@contract.job("billing.archive_usage", queue=Queue.usage)
def archive_usage(*, as_of: fields.Instant = contract.NOW) -> ArchiveAnswer:
    """Archive and purge the usage of months that are old, and final in every invoice.

    Runs at night, by beat; does nothing unless an age and a folder are set. Twice, or twice at
    once, is harmless: each step is done once, by whoever locks its row. If it dies at any point the
    next run goes on: a file counts once it was read back and compared with the events, and only
    then they are purged.

    Args:
        as_of: what to call now.

    Raises:
        ArchiveFolderUnusable: the folder is not there, or can not be written.
    """
    terms = config.current().retention
    if terms is None:
        return ArchiveAnswer(closed=0, written=0, purged=0, forgotten=0, unsound=[], finished=True)
    archive_file.require(terms.folder)
    run = Run(terms, as_of, time.monotonic() + TIME_BUDGET)
    answer = ArchiveAnswer(
        closed=_close(run),
        written=_write(run),
        purged=purging.purge(run),
        forgotten=purging.forget(run),
        unsound=run.unsound,
        finished=run.has_time and not run.was_busy,
    )
    if any(answer[what] for what in ("closed", "written", "purged", "forgotten", "unsound")):
        log.info("usage.archived", **answer)
    return answer


def _close(run: Run) -> int:
    closed, after = 0, ""
    while run.has_time:
        with database.transaction() as session:
            page = standing.find(session, run.rule, after=after, limit=TENANTS_CHUNK, now=run.now)
        if page.last_tenant_id is None:
            break
        ready = [one.tenant_id for one in page.candidates if one.is_settled and not one.is_behind]
        if ready:
            closed += _close_some(run, ready)
        after = page.last_tenant_id
    return closed


def _close_some(run: Run, tenant_ids: list[str]) -> int:
    try:
        with database.transaction() as session:
            return len(closing.close(session, run.rule, tenant_ids, now=run.now))
    except Exception as error:
        if not failures.is_lock_timeout(error):
            raise
        # Usage is being recorded without a pause: that goes first.
        run.was_busy = True
        return 0


def _write(run: Run) -> int:
    written, after = 0, 0
    while run.has_time:
        with database.transaction() as session:
            archive = usage_archive.claim(session, ArchiveState.due, after=after)
            if archive is None:
                break
            _write_file(session, run, archive)
            after = archive.id
        written += 1
    return written


def _write_file(session: database.Session, run: Run, archive: UsageArchive) -> None:
    name = archive_file.name_of(
        archive.tenant_id,
        start=archive.period_start,
        zone=period.zone(archive.timezone),
        part=archive.part,
    )
    # Written again it ends where it ended before: other files go on from there.
    most = archive.event_count or EVENTS_OF_A_FILE
    last: Place | None = None

    def lines() -> Iterator[Lines]:
        nonlocal last
        for some in archive_lines.read(session, archive, most=most):
            last = some.last
            yield some

    file = archive_file.write(run.terms.folder, name, lines())
    usage_archive.record(session, archive, file, last=last, now=run.now)
