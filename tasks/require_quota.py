"""Functions that may be called as often as a quota allows."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, ParamSpec, TypeVar, cast

import structlog

from models.rules import ids
from tasks import blocking, clock
from tasks.quotas import QuotaAnswer, consume_entitlement
from tasks.usage_voids import void_usage

P = ParamSpec("P")
R = TypeVar("R")

Amount = Decimal | int

log = structlog.get_logger(__name__)


class QuotaRefused(Exception):
    """The tenant may not use so much: the function did not run.

    Args:
        answer: of billing.consume_entitlement: `reason` is "quota_exceeded" or "no_entitlement",
            `resets_at` when there is room again.
    """

    def __init__(self, answer: QuotaAnswer) -> None:
        until = "" if answer["resets_at"] is None else f"; it resets at {answer['resets_at']}"
        super().__init__(
            f"tenant {answer['tenant_id']!r} may not use {answer['metric']!r} "
            f"({answer['reason']}): {answer['used']} of {answer['limit']} used{until}"
        )
        self.answer = answer


def require_quota(
    metric: str,
    *,
    tenant: str | Callable[..., str],
    amount: Amount | str | Callable[..., Amount] = 1,
    key: str | Callable[..., str] | None = None,
    on_error: Literal["give_back", "keep"] = "give_back",
    metadata: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let each call of a function use some of its tenant's quota, or not run.

        @require_quota("reports", tenant="tenant_id")
        def make_report(tenant_id: str) -> Report: ...

    The use is recorded as usage before the function runs. Coroutine functions are awaited, and
    their event loop is not blocked. If the process dies in the function the use stays.

    Args:
        metric: what a call uses.
        tenant: whose quota: the name of an argument, or a function of all arguments.
        amount: how much, above 0: a number, the name of an argument, or a function of all.
        key: names the call, so that the same call again uses nothing more: the name of an argument
            or a function of all; each call is another one if absent.
        on_error: when the function raises, "give_back" voids the use, "keep" lets it count.
        metadata: kept with the usage event.

    Raises:
        QuotaRefused: by the call; the function did not run.
        TypeError: now; the function has no such argument, or is a generator.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__name__} is a generator: it runs when it is iterated over")
        read = _Reader(inspect.signature(function), function.__name__)
        tenant_of, amount_of, key_of = read.of(tenant), read.of(amount), read.of(key)
        kept = None if metadata is None else dict(metadata)

        def use(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Used:
            named = key_of(args, kwargs) or str(ids.uuid7(clock.now()))
            return _use(tenant_of(args, kwargs), metric, amount_of(args, kwargs), named, kept)

        if inspect.iscoroutinefunction(function):
            wrapped: Any = _around_coroutine(function, use, on_error)
        else:
            wrapped = _around(function, use, on_error)
        return cast("Callable[P, R]", functools.wraps(function)(wrapped))

    return decorate


@dataclass(frozen=True, slots=True)
class _Used:
    """What a call has used."""

    tenant_id: str
    metric: str
    key: str

    def give_back(self, error: BaseException | None = None) -> None:
        """Void the usage; if even that fails it counts, and the log says so."""
        why = "cancelled" if error is None else f"failed: {type(error).__name__}"
        try:
            void_usage(
                tenant_id=self.tenant_id, metric=self.metric, idempotency_key=self.key, reason=why
            )
        except Exception:
            log.exception(
                "quota.not_given_back",
                tenant_id=self.tenant_id,
                metric=self.metric,
            )


class _Reader:
    """Finds values in the arguments of a function's calls."""

    def __init__(self, signature: inspect.Signature, name: str) -> None:
        self._signature = signature
        self._name = name

    def of(self, source: Any) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """Return what finds a value: an argument by its name, what a function says, or itself."""
        if callable(source):
            return lambda args, kwargs: source(*args, **kwargs)
        if not isinstance(source, str):
            return lambda _args, _kwargs: source
        if source not in self._signature.parameters:
            raise TypeError(f"{self._name} has no argument {source!r}")
        return lambda args, kwargs: self._bound(args, kwargs)[source]

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


def _use(
    tenant_id: str, metric: str, amount: Amount, key: str, metadata: dict[str, Any] | None
) -> _Used:
    answer = consume_entitlement(
        tenant_id=tenant_id,
        metric=metric,
        amount=Decimal(amount),
        idempotency_key=key,
        metadata=metadata,
    )
    if not answer["allowed"]:
        raise QuotaRefused(answer)
    return _Used(tenant_id, metric, key)


def _around(function: Callable[..., Any], use: Callable[..., _Used], on_error: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        used = use(args, kwargs)
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if on_error == "give_back":
                used.give_back(error)
            raise

    return call


def _around_coroutine(
    function: Callable[..., Any], use: Callable[..., _Used], on_error: str
) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        used = await blocking.begin(functools.partial(use, args, kwargs), undo=_Used.give_back)
        try:
            return await function(*args, **kwargs)
        except BaseException as error:
            if on_error == "give_back":
                await blocking.finish(functools.partial(used.give_back, error))
            raise

    return call
