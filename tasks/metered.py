"""Work that is paid by what it comes to: reserve an estimate, run, charge what was used.

    with metered("acme", "TOKENS", 2_000) as hold:
        answer = model.complete(prompt)
        hold.actual = answer.usage.total_tokens

`async with` does the same in a coroutine and does not block its event loop.
"""

import functools
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from models.store.reservation_bill import Above
from tasks import blocking, hold
from tasks.hold import AboveHold, Amount, Hold, HoldEnded, TooLittleCredit

__all__ = ["Above", "AboveHold", "Hold", "HoldEnded", "TooLittleCredit", "metered"]


def metered(
    tenant_id: str,
    product_key: str,
    estimate: Amount,
    *,
    reason: str | None = None,
    ttl_seconds: int = 900,
    above: Above | str = Above.take_available,
    idempotency_key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> "Metered":
    """Return a block that is paid by what it comes to; enter it with `with` or `async with`.

    The block runs only if the estimate could be set aside, and gets the `Hold`. When it ends,
    `hold.actual` is charged (the estimate, if that was not set) and the rest goes back; if it
    raises, or is cancelled, everything goes back. If the process dies in between, nobody is there
    to do either: the hold ends by itself after `ttl_seconds`, uncharged.

    Args:
        tenant_id: whose credit.
        product_key: of which product.
        estimate: what to set aside, above 0; better too much than too little.
        reason: what for, for people to read.
        ttl_seconds: longer than the work ever takes, at most 7 days.
        above: what happens if more is used than was set aside. "take_available" charges more as
            far as there is any (`hold.uncovered` says what was not charged), "overdraft" lets it
            become debt, "refuse" charges nothing and raises.
        idempotency_key: names this work, so that the same work done again, by a job that was
            delivered twice, is charged once. Work that failed needs a new key.
        metadata: kept with the hold, and with the ledger entries.

    Raises:
        TooLittleCredit: on entering; the block does not run.
        HoldEnded: on leaving; the block took longer than `ttl_seconds` and was not charged.
        AboveHold: on leaving, with `above` "refuse".
    """
    return Metered(
        functools.partial(
            hold.reserve,
            tenant_id,
            product_key,
            estimate,
            reason=reason,
            ttl_seconds=ttl_seconds,
            above=above,
            idempotency_key=idempotency_key,
            metadata=metadata,
        )
    )


class Metered:
    """What `metered` returns, to be entered once."""

    def __init__(self, reserve: Callable[[], Hold]) -> None:
        self._reserve = reserve
        self._hold: Hold | None = None

    def __enter__(self) -> Hold:
        """Set the estimate aside."""
        self._hold = self._reserve()
        return self._hold

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Charge what was used, or give everything back."""
        assert self._hold is not None  # noqa: S101 (Python enters before it leaves)
        if error is None:
            self._hold.charge()
        else:
            self._hold.give_up(error)

    async def __aenter__(self) -> Hold:
        """Set the estimate aside."""
        self._hold = await blocking.begin(self._reserve, undo=Hold.give_up)
        return self._hold

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Charge what was used, or give everything back."""
        await blocking.finish(functools.partial(self.__exit__, kind, error, traceback))
