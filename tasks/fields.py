"""The kinds of argument that tasks share, with their limits."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from models.rules import identity, money, period
from tasks import storable
from webhooks import headers, topics

INSTANT: Final = "must be an instant in ISO 8601, such as 2026-01-31T23:59:59Z"


def _aware(value: Any) -> Any:
    """A time without a zone is UTC."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            raise PydanticCustomError("instant", INSTANT) from None
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("printable", "must have no control characters or odd spaces")
    # The one space that is printable; `strip` would do, at three times the cost for each event.
    if value[0] == " " or value[-1] == " ":
        raise PydanticCustomError("stripped", "must not begin or end with a space")
    return value


def _printable_lines(value: str) -> str:
    lines = value.split("\n")
    if len(lines) > 12:
        raise PydanticCustomError("lines", "must be at most 12 lines")
    if not all(line.isprintable() for line in lines):
        raise PydanticCustomError("printable", "must have no control characters but line ends")
    return value


def _upper_key(value: str) -> str:
    """Upper case can be longer: the German sharp s becomes two letters."""
    if len(value) > 64:
        raise PydanticCustomError("upper_key", "must be at most 64 characters in upper case")
    return value


def _not_zero(value: Decimal) -> Decimal:
    if value == 0:
        raise PydanticCustomError("not_zero", "must not be 0")
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


def _provider(value: str) -> str:
    try:
        return identity.provider(value)
    except identity.InvalidIdentity as error:
        raise PydanticCustomError("provider", "{reason}", {"reason": str(error)}) from None


def _external_id(value: str) -> str:
    try:
        return identity.external_id(value)
    except identity.InvalidIdentity as error:
        raise PydanticCustomError("external_id", "{reason}", {"reason": str(error)}) from None


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
    AfterValidator(_upper_key),
]
"""Upper-cased, as it is stored: 1 to 64 characters, also then."""
Sku = ProductKey
PriceCurrency = ProductKey
"""An ISO 4217 code, or the key of a product that is a currency."""
Provider = Annotated[str, Field(max_length=1_000), AfterValidator(_provider)]
"""Who knows a tenant by a name, such as "google": stripped and in lower case, as it is stored."""
ExternalId = Annotated[str, Field(max_length=1_000), AfterValidator(_external_id)]
"""The name a provider knows a tenant by: stripped; upper and lower case are two names."""
Timezone = Annotated[str, AfterValidator(_zone)]
Currency = Annotated[
    str, StringConstraints(strip_whitespace=True, to_upper=True), AfterValidator(_currency)
]
Instant = Annotated[AwareDatetime, BeforeValidator(_aware)]
"""An instant: ISO 8601; UTC if it names no zone."""


def _day_start(value: Any) -> dt.date | dt.datetime:
    """A date stays a date: as an instant it would be midnight in UTC, which is another one."""
    try:
        if isinstance(value, str):
            is_date = len(value) == len("2026-01-31")
            given = dt.date.fromisoformat(value) if is_date else _aware(value)
        else:
            given = _aware(value)
    except ValueError:
        given = None
    # A day begins up to 14 hours from its date's midnight in UTC: stay off the calendar's end.
    if isinstance(given, dt.date) and 1970 <= given.year < 9999:
        return given
    raise PydanticCustomError(
        "day_start", "must be a date, such as 2026-01-31, or the instant it begins, from 1970 on"
    )


DayStart = Annotated[
    dt.date | dt.datetime,
    PlainValidator(_day_start),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date"},
                {"type": "string", "format": "date-time"},
            ]
        }
    ),
]
"""A tenant's local day: its date, or the instant it begins (UTC if that names no zone)."""

Amount = Annotated[Decimal, Field(gt=0, lt=Decimal(10) ** 18, decimal_places=12)]
"""More than 0, less than 10^18, at most 12 decimals. Send it as a string."""

UsedAmount = Annotated[Decimal, Field(ge=0, lt=Decimal(10) ** 18, decimal_places=12)]
"""0 or more, less than 10^18, at most 12 decimals. Send it as a string."""

LONGEST_HOLD = 7 * 86_400
"""Seconds that credit can be set aside for."""

HoldSeconds = Annotated[int, Field(ge=1, le=LONGEST_HOLD)]
"""How long credit is set aside: 1 s to 7 days."""

Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
"""Which credit is spent before other: a lower one first."""

Change = Annotated[
    Decimal,
    Field(gt=-(Decimal(10) ** 18), lt=Decimal(10) ** 18, decimal_places=12),
    AfterValidator(_not_zero),
]
"""Above or below 0, less than 10^18 either way, at most 12 decimals. Send it as a string."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
"""How many of something that is sold, 1 to 1,000,000."""

UnitAmount = Annotated[Decimal, Field(ge=0, lt=Decimal(10) ** 18, decimal_places=12)]
"""A unit price in major units of its currency: 0 or more, at most 12 decimals."""


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
"""Something people read, such as a tenant's name."""

Reason = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
"""Why somebody did something, for people to read later: 1 to 500 characters."""

Metadata = Annotated[dict[str, Any], AfterValidator(storable.metadata)]
"""A producer's own JSON object, at most 16 KiB."""


Topics = Annotated[
    list[Annotated[str, AfterValidator(_topic)]], Field(min_length=1, max_length=100)
]
"""What an endpoint hears of: exact types, "prefix.*" (children only), or "*"; 1 to 100."""

Headers = Annotated[dict[str, str], AfterValidator(_headers)]
"""Headers to add to each request: at most 20, 4 KiB in all, ASCII, none that is ours."""

Url = Annotated[str, Field(min_length=1, max_length=2048)]
"""Where webhooks go. What may be sent there is decided by the operator's address policy."""

CouponKey = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True, min_length=1, max_length=64),
    AfterValidator(_printable),
    AfterValidator(_upper_key),
]
"""Upper-cased, as it is stored: what a customer types to redeem it. 1 to 64 characters."""

Percent = Annotated[Decimal, Field(ge=0, le=1000, decimal_places=6)]
"""A percentage, such as "19" or "7.25", at most 6 decimals; as a string."""

Lines = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_printable_lines)]
"""Several lines that people read, such as an address: at most 1,000 characters in 12 lines."""
