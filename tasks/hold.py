"""Credit set aside by a program in this process: reserved, then charged or released."""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import structlog

from models.rules import ids
from models.store.reservation_bill import Above
from tasks import clock
from tasks.reservations import commit_reserved_credits, release_reserved_credits, reserve_credits

Amount = Decimal | int | str
"""An exact number: no float, which hardly any amount is equal to."""

KEY = "metered"
"""Names the end of a hold, within it."""

log = structlog.get_logger(__name__)


class TooLittleCredit(Exception):
    """The estimate could not be set aside: the work must not begin.

    Args:
        reason: "quota_exhausted" if nothing is usable, "insufficient_funds" if it is too little.
    """

    def __init__(
        self,
        *,
        tenant_id: str,
        product_key: str,
        reason: str,
        estimate: Decimal,
        available: Decimal,
    ) -> None:
        super().__init__(
            f"tenant {tenant_id!r} has {available} of {product_key!r} available and needs "
            f"{estimate}; grant credit or estimate less"
        )
        self.tenant_id = tenant_id
        self.product_key = product_key
        self.reason = reason
        self.estimate = estimate
        self.available = available


class HoldEnded(Exception):
    """The hold had ended before the work did, and nothing was charged now.

    Args:
        reason: how it ended: "expired", "released" or "committed".
    """

    def __init__(self, reservation_id: str, reason: str, used: Decimal) -> None:
        super().__init__(
            f"hold {reservation_id} had ended ({reason}) before its {used} could be charged; give "
            "the work a longer ttl_seconds, and charge it with billing.deduct_after_service"
        )
        self.reservation_id = reservation_id
        self.reason = reason
        self.used = used


class AboveHold(Exception):
    """More was used than set aside, and `above` is "refuse": the hold goes on, uncharged."""

    def __init__(self, reservation_id: str, estimate: Decimal, used: Decimal) -> None:
        super().__init__(
            f"hold {reservation_id} is of {estimate} and {used} was used; commit it with another "
            "`above`, or release it"
        )
        self.reservation_id = reservation_id
        self.estimate = estimate
        self.used = used


class Hold:
    """Credit set aside for work that has not ended.

    `charged`, `uncovered` and `overdraft` are None until it has been charged: what that was,
    what was used beyond it and not charged, and how much of the charge became debt.
    """

    def __init__(
        self, *, reservation_id: str, estimate: Decimal, expires_at: dt.datetime, above: Above
    ) -> None:
        self.reservation_id = reservation_id
        self.estimate = estimate
        self.expires_at = expires_at
        self.charged: Decimal | None = None
        self.uncovered: Decimal | None = None
        self.overdraft: Decimal | None = None
        self._above = above
        self._actual: Decimal | None = None

    @property
    def actual(self) -> Decimal | None:
        """What was used, 0 or more; None stands for all of the estimate.

        Raises:
            ValueError: it was set to something else.
        """
        return self._actual

    @actual.setter
    def actual(self, used: Amount | None) -> None:
        self._actual = None if used is None else _amount(used)

    def charge(self) -> Decimal:
        """Charge what was used and give the rest back; return what was charged.

        Raises:
            HoldEnded: it was over before.
            AboveHold: more was used than set aside, which is to be refused.
        """
        used = self.estimate if self._actual is None else self._actual
        done = commit_reserved_credits(
            reservation_id=self.reservation_id,  # type: ignore[arg-type]
            idempotency_key=KEY,
            actual_amount=self._actual,
            above=self._above,
        )
        if not done["committed"]:
            if done["reason"] == "above_hold":
                raise AboveHold(self.reservation_id, self.estimate, used)
            raise HoldEnded(self.reservation_id, done["reason"], used)
        self.charged = Decimal(done["amount"])
        self.uncovered = Decimal(done["uncovered"])
        self.overdraft = Decimal(done["overdraft"])
        return self.charged

    def release(self, reason: str | None = None) -> None:
        """Give everything back. If the hold is over already nothing happens."""
        release_reserved_credits(
            reservation_id=self.reservation_id,  # type: ignore[arg-type]
            idempotency_key=KEY,
            reason=reason,
        )

    def give_up(self, error: BaseException | None = None) -> None:
        """Do as `release`; if even that fails, leave it to the hold's end and say so in the log."""
        why = "not used" if error is None else f"failed: {type(error).__name__}"
        try:
            self.release(why)
        except Exception:
            log.exception(
                "metered.not_released",
                reservation_id=self.reservation_id,
                expires_at=self.expires_at.isoformat(),
            )


def reserve(
    tenant_id: str,
    product_key: str,
    estimate: Amount,
    *,
    reason: str | None = None,
    ttl_seconds: int = 900,
    above: Above | str = Above.take_available,
    idempotency_key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Hold:
    """Set an estimate aside; charge or release what comes back when the work has ended.

    The arguments are those of `tasks.metered.metered`.

    Raises:
        TooLittleCredit: there is not so much.
    """
    wanted = _amount(estimate)
    held = reserve_credits(
        tenant_id=tenant_id,
        product_key=product_key,
        amount=wanted,
        idempotency_key=idempotency_key or str(ids.uuid7(clock.now())),
        reason=reason,
        ttl_seconds=ttl_seconds,
        metadata=None if metadata is None else dict(metadata),
    )
    if not held["reserved"]:
        raise TooLittleCredit(
            tenant_id=tenant_id,
            product_key=product_key,
            reason=held["reason"],
            estimate=wanted,
            available=Decimal(held["available"]),
        )
    return Hold(
        reservation_id=str(held["reservation_id"]),
        estimate=wanted,
        expires_at=dt.datetime.fromisoformat(str(held["expires_at"])),
        above=Above(above),
    )


def _amount(given: Amount) -> Decimal:
    try:
        amount = Decimal(given) if isinstance(given, Decimal | int | str) else None
    except InvalidOperation:
        amount = None
    if amount is None or isinstance(given, bool) or not amount.is_finite() or amount < 0:
        raise ValueError(
            f"{given!r} is no amount: it must be an int, a Decimal or a decimal as text, 0 or more"
        )
    return amount
