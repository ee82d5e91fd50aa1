"""Are the keys there that open what is sealed, and which of them does nothing need any more?"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from models import database, failures
from models.store import endpoint_secret, trial
from models.store.endpoint_secret import Sealed
from webhooks import keyring
from webhooks.keyring import Keyring
from worker import settings
from worker.health.finding import Area, Finding, Verdict

T = TypeVar("T")

MOST_OPENED: Final = 10_000
"""Sealed secrets that are tried, the newest: to open one takes microseconds."""

MAKE_MASTER_KEY: Final = (
    "set BILLING_MASTER_KEYS to what `billing keys new` prints, and keep it safe"
)
MAKE_PEPPER: Final = "set BILLING_TRIAL_PEPPERS to what `billing keys new` prints, and keep it"


def given(chosen: settings.Settings) -> Iterator[Finding]:
    """Judge the keys that the settings hold."""
    yield _master_keys(chosen)
    yield _trial_peppers(chosen)


def needed(chosen: settings.Settings) -> Iterator[Finding]:
    """Compare the keys with what the database holds that was made with them.

    Each kind for itself: hardly a role may look at both.
    """
    sealed = _looked_at(lambda session: endpoint_secret.newest(session, limit=MOST_OPENED))
    if sealed is None:
        yield _not_shown("sealed secrets", "billing_sender")
    else:
        with contextlib.suppress(settings.InvalidSettings):  # said by `given`
            yield from of_sealed(sealed, chosen.keyring())
    used = _looked_at(trial.pepper_ids)
    if used is None:
        yield _not_shown("trial peppers used", "billing_worker")
    else:
        yield from _peppers_used(chosen, used)


def _looked_at(look: Callable[[database.Session], T]) -> T | None:
    """Return what is found; None if the database's role may not look."""
    try:
        with database.transaction() as session:
            return look(session)
    except Exception as error:
        if not failures.is_forbidden(error):
            raise
        return None


def _not_shown(subject: str, role: str) -> Finding:
    detail = "the database's role may not look at them"
    remedy = f"to have them checked, use the DATABASE_URL of a member of {role}"
    return Finding(Area.keys, subject, Verdict.ok, detail, remedy)


def of_sealed(sealed: Sequence[Sealed], ring: Keyring | None) -> Iterator[Finding]:
    """Try to open each secret; `sealed` are MOST_OPENED where there may be more."""
    known = ring.keys.keys() if ring else set()
    by_key = Counter(keyring.key_id_of(one.sealed) for one in sealed)
    if gone := sorted(by_key.keys() - known):
        count = sum(by_key[key] for key in gone)
        detail = f"{count:,} under {', '.join(map(repr, gone))}, which is not among those given"
        remedy = "put it behind the others in BILLING_MASTER_KEYS: what it signs for waits"
        yield Finding(Area.keys, "sealed secrets", Verdict.fail, detail, remedy)
    elif ring and (broken := [one for one in sealed if not _opens(one, ring)]):
        endpoints = ", ".join(sorted({str(one.endpoint_id) for one in broken})[:3])
        detail = f"{len(broken):,} of {len(sealed):,} do not open, of endpoints such as {endpoints}"
        remedy = (
            "give the key's own bytes back to BILLING_MASTER_KEYS; what was altered in the "
            "database is replaced by `billing endpoint rotate-secret`"
        )
        yield Finding(Area.keys, "sealed secrets", Verdict.fail, detail, remedy)
    else:
        yield Finding(Area.keys, "sealed secrets", Verdict.ok, f"all {len(sealed):,} open")
    if ring and len(sealed) < MOST_OPENED:
        yield from _unused(
            "master keys", set(ring.keys) - {ring.current} - by_key.keys(), "BILLING_MASTER_KEYS"
        )


def _unused(subject: str, unused: set[str], variable: str) -> Iterator[Finding]:
    if unused:
        detail = f"nothing needs {', '.join(map(repr, sorted(unused)))} any more"
        remedy = f"take it out of {variable} when no backup that you may restore needs it"
        yield Finding(Area.keys, f"unused {subject}", Verdict.ok, detail, remedy)


def _opens(one: Sealed, ring: Keyring) -> bool:
    try:
        ring.open(one.sealed, associated=str(one.endpoint_id))
    except keyring.TamperedSecret:
        return False
    return True


def _master_keys(chosen: settings.Settings) -> Finding:
    try:
        ring = chosen.keyring()
    except settings.InvalidSettings as error:
        return Finding(Area.keys, "master keys", Verdict.fail, str(error), MAKE_MASTER_KEY)
    if ring is None:
        detail = "none: webhooks can not be signed"
        return Finding(Area.keys, "master keys", Verdict.warn, detail, MAKE_MASTER_KEY)
    detail = f"{len(ring.keys)}, the current one is {ring.current!r}"
    return Finding(Area.keys, "master keys", Verdict.ok, detail)


def _trial_peppers(chosen: settings.Settings) -> Finding:
    try:
        found = chosen.peppers()
    except settings.InvalidSettings as error:
        return Finding(Area.keys, "trial peppers", Verdict.fail, str(error), MAKE_PEPPER)
    if found is None:
        detail = "none: no trials can be granted"
        return Finding(Area.keys, "trial peppers", Verdict.warn, detail, MAKE_PEPPER)
    detail = f"{len(found.secrets)}, the current one is {found.current!r}"
    return Finding(Area.keys, "trial peppers", Verdict.ok, detail)


def _peppers_used(chosen: settings.Settings, used: set[str]) -> Iterator[Finding]:
    try:
        found = chosen.peppers()
    except settings.InvalidSettings:
        return  # said by `given`
    if gone := sorted(used - (found.secrets.keys() if found else set())):
        detail = f"trials were claimed under {', '.join(gone)}, which is not among those given"
        remedy = "put it behind the others in BILLING_TRIAL_PEPPERS, or who had one can have more"
        yield Finding(Area.keys, "trial peppers used", Verdict.warn, detail, remedy)
    if found:
        unused = set(found.secrets) - {found.current} - used
        yield from _unused("trial peppers", unused, "BILLING_TRIAL_PEPPERS")
