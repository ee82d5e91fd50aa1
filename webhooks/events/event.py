"""What every event is: its topic, and how quantities and instants are written."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema

CATALOGUE: dict[str, type["Event"]] = {}
"""Every topic and the model of its data."""


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def utc(value: dt.datetime) -> str:
    """Write an aware instant as ISO 8601 with a Z."""
    return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


Quantity = Annotated[
    Decimal,
    PlainSerializer(_plain, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}, mode="serialization"),
]
"""A decimal string without exponent, such as "12.5"."""

Instant = Annotated[
    dt.datetime,
    PlainSerializer(utc, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""UTC, ISO 8601 with a Z."""


class Event(BaseModel):
    """The data of one topic. A subclass names its topic and is in the catalogue from then on."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_serialization_defaults_required=True,  # every field is sent
    )

    topic: ClassVar[str] = ""
    schema_version: ClassVar[int] = 1
    for_operator: ClassVar[bool] = False
    """Whether only the operator's endpoints hear of it: it is about how the system does."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Enter the topic into the catalogue."""
        super().__pydantic_init_subclass__(**kwargs)
        if not cls.topic:  # a base of several topics
            return
        if cls.topic in CATALOGUE:
            raise ValueError(f"topic {cls.topic!r} is in the catalogue twice")
        CATALOGUE[cls.topic] = cls


def operator_topics() -> frozenset[str]:
    """Return the topics that tenants' endpoints do not hear of."""
    return frozenset(topic for topic, event in CATALOGUE.items() if event.for_operator)
