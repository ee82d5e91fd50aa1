"""Purging: what was written is read back and compared, then it goes, and at last its keys go."""

import structlog

from models import database, failures
from models.rules.states import ArchiveState
from models.store import closing, horizon, usage_archive, usage_purge
from models.usage_archive import UsageArchive
from tasks import archive_file
from tasks.archive_file import ArchiveUnsound
from tasks.archive_run import Run

PURGE_CHUNK = 5_000
"""Events that one transaction deletes."""

log = structlog.get_logger(__name__)


def purge(run: Run) -> int:
    """Read files back, and delete the events of those that are sound; return how many."""
    _verify(run)
    with database.transaction() as session:
        verified = usage_archive.ids(session, ArchiveState.verified)
    if not verified or not _let_holders_end(run):
        return 0
    return sum(_purge_one(run, archive_id) for archive_id in verified if run.has_time)


def forget(run: Run) -> int:
    """Forget the keys of what was purged long enough ago; return how many."""
    forgotten, purged_by = 0, run.now - run.terms.keys_remembered
    while run.has_time:
        with database.transaction() as session:
            some = usage_purge.forget(session, purged_by=purged_by, now=run.now)
        if some is None:
            break
        forgotten += some
    return forgotten


def _verify(run: Run) -> None:
    """Read files back; remember the keys of those that are sound."""
    after = 0
    while run.has_time:
        try:
            with database.transaction() as session:
                archive = usage_archive.claim(session, ArchiveState.written, after=after)
                if archive is None:
                    break
                after = archive.id
                _verify_one(session, run, archive)
        except ArchiveUnsound as unsound:
            _report(run, unsound)


def _verify_one(session: database.Session, run: Run, archive: UsageArchive) -> None:
    file = usage_archive.file_of(archive)
    archive_file.check(run.terms.folder, file)
    path = run.terms.folder / file.name
    remembered = sum(
        usage_purge.remember(session, archive, lines)
        for lines in archive_file.read(path, at_once=PURGE_CHUNK)
    )
    if remembered != file.event_count:
        raise ArchiveUnsound(
            f"{path} holds {file.event_count} events, and {remembered} of them are stored as it "
            "says",
            field="name",
        )
    usage_purge.verify(session, archive)


def _let_holders_end(run: Run) -> bool:
    """Wait for those who began to record usage before the keys were remembered."""
    try:
        with database.transaction() as session:
            horizon.wait_for_holders(session, patience=closing.LONGEST_WAIT)
    except Exception as error:
        if not failures.is_lock_timeout(error):
            raise
        run.was_busy = True
        return False
    return True


def _purge_one(run: Run, archive_id: int) -> int:
    """Delete the events that an archive's file names, after another look at it: it is all then."""
    with database.transaction() as session:
        file = usage_archive.file_of(usage_archive.get(session, archive_id))
    purged = 0
    try:
        archive_file.check(run.terms.folder, file)
        for lines in archive_file.read(run.terms.folder / file.name, at_once=PURGE_CHUNK):
            with database.transaction() as session:
                gone = usage_purge.purge(session, archive_id, lines)
            if gone is None or not run.has_time:
                return purged + (gone or 0)
            purged += gone
    except ArchiveUnsound as unsound:
        _report(run, unsound)
        return purged
    with database.transaction() as session:
        usage_purge.end(session, archive_id, now=run.now)
    return purged


def _report(run: Run, unsound: ArchiveUnsound) -> None:
    log.error("usage.archive_unsound", reason=unsound.message)
    run.unsound.append(unsound.message)
