"""The kinds of argument that tasks share, with their limits."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from models.rules import money, period
from webhooks import headers, topics

LARGEST_METADATA = 16 * 1024
"""Bytes of metadata, as JSON."""


def _aware(value: Any) -> Any:
    """A time without a zone is UTC."""
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("printable", "must have no control characters or odd spaces")
    if value != value.strip():
        raise PydanticCustomError("stripped", "must not begin or end with a space")
    return value


def _zone(value: str) -> str:
    try:
        period.zone(value)
    except period.UnknownTimezone as error:
        raise PydanticCustomError("timezone", "{reason}", {"reason": str(error)}) from None
    return value


def _currency(value: str) -> str:
    try:
        money.minor_unit(value)
    except money.UnknownCurrency as error:
        raise PydanticCustomError("currency", "{reason}", {"reason": str(error)}) from None
    return value


def _topic(value: str) -> str:
    try:
        topics.check(value)
    except topics.UnknownTopic as error:
        raise PydanticCustomError("topic", "{reason}", {"reason": str(error)}) from None
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    try:
        headers.check_headers(value)
    except headers.HeaderRefused as error:
        raise PydanticCustomError("headers", "{reason}", {"reason": str(error)}) from None
    return value


Key64 = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
TenantId = Key64
Metric = Key64
PlanKey = Key64
PriceKey = Key64
IdempotencyKey = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
ProductKey = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True, min_length=1, max_length=64),
    AfterValidator(_printable),
]
Timezone = Annotated[str, AfterValidator(_zone)]
Currency = Annotated[
    str, StringConstraints(strip_whitespace=True, to_upper=True), AfterValidator(_currency)
]
Instant = Annotated[AwareDatetime, BeforeValidator(_aware)]
"""An instant: ISO 8601; UTC if it names no zone."""

Amount = Annotated[Decimal, Field(gt=0, lt=Decimal(10) ** 18, decimal_places=12)]
"""More than 0, less than 10^18, at most 12 decimals. Send it as a string."""

UnitAmount = Annotated[Decimal, Field(ge=0, lt=Decimal(10) ** 18, decimal_places=12)]
"""A unit price in major units of its currency: 0 or more, at most 12 decimals."""


def _small_enough(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise PydanticCustomError("metadata", "must be JSON: {why}", {"why": str(error)}) from None
    if size > LARGEST_METADATA:
        raise PydanticCustomError(
            "metadata",
            "must be at most {limit} bytes as JSON, is {size}",
            {"limit": LARGEST_METADATA, "size": size},
        )
    if b"\\u0000" in orjson.dumps(value):
        raise PydanticCustomError("metadata", "must not contain the character U+0000")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
"""Something people read, such as a tenant's name."""

Metadata = Annotated[dict[str, Any], AfterValidator(_small_enough)]
"""A producer's own JSON object, at most 16 KiB."""

Topics = Annotated[
    list[Annotated[str, AfterValidator(_topic)]], Field(min_length=1, max_length=100)
]
"""What an endpoint hears of: exact types, "prefix.*" (children only), or "*"; 1 to 100."""

Headers = Annotated[dict[str, str], AfterValidator(_headers)]
"""Headers to add to each request: at most 20, 4 KiB in all, ASCII, none that is ours."""

Url = Annotated[str, Field(min_length=1, max_length=2048)]
"""Where webhooks go. What may be sent there is decided by the operator's address policy."""
