"""How a provider does: left alone when it fails for all, or asks for it."""

import datetime as dt
from typing import Any, Final

from sqlalchemy import text as sql
from sqlalchemy.orm import Session

FIRST_HOLD: Final = dt.timedelta(seconds=30)
"""How long a provider that fails is left alone at first; it doubles with each further failure."""

LONGEST_HOLD: Final = dt.timedelta(minutes=10)

FAILURES_ALLOWED: Final = 5
"""In a row, before a provider is left alone."""


def note(session: Session, *, provider: str, unwell: bool, now: dt.datetime) -> None:
    """Count a failure that no invoice is to blame for, or forget them all after a success."""
    values: dict[str, Any] = {"provider": provider, "now": now}
    if not unwell:
        session.execute(_WELL, values)
        return
    values |= {"allowed": FAILURES_ALLOWED, "first": FIRST_HOLD, "longest": LONGEST_HOLD}
    session.execute(_UNWELL, values)


def hold(session: Session, *, provider: str, until: dt.datetime, now: dt.datetime) -> None:
    """Leave a provider alone until an instant, as it asked."""
    session.execute(_HOLD, {"provider": provider, "until": until, "now": now})


# What ends while it is left alone was under way before: it says nothing new, well or unwell.
_WELL = sql("""
    UPDATE provider_health SET failures = 0, hold_until = NULL, updated_at = :now
    WHERE provider = :provider
      AND (hold_until <= :now OR (hold_until IS NULL AND failures > 0))
""")

_UNWELL = sql("""
    INSERT INTO provider_health AS h (provider, failures, updated_at) VALUES (:provider, 1, :now)
    ON CONFLICT (provider) DO UPDATE
    SET failures = h.failures + 1, updated_at = :now,
        hold_until = CASE WHEN h.failures + 1 < :allowed THEN h.hold_until
            ELSE CAST(:now AS timestamptz) + least(
                CAST(:first AS interval) * power(2, least(h.failures + 1 - :allowed, 20)),
                CAST(:longest AS interval)) END
    WHERE h.hold_until IS NULL OR h.hold_until <= :now
""")

_HOLD = sql("""
    INSERT INTO provider_health AS h (provider, hold_until, updated_at)
    VALUES (:provider, :until, :now)
    ON CONFLICT (provider) DO UPDATE
    SET hold_until = greatest(h.hold_until, excluded.hold_until), updated_at = :now
""")
