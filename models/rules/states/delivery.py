"""Life cycles of webhooks: endpoints, and messages on their way to them."""

from enum import StrEnum
from typing import Final

from models.rules.states.machine import Machine


class EndpointState(StrEnum):
    """Life of a webhook endpoint."""

    enabled = "enabled"
    disabled = "disabled"
    deleted = "deleted"


ENDPOINT: Final = Machine(
    name="Endpoint",
    states=EndpointState,
    initial=EndpointState.enabled,
    transitions={
        EndpointState.enabled: {
            "disable": EndpointState.disabled,
            "delete": EndpointState.deleted,
        },
        EndpointState.disabled: {
            "enable": EndpointState.enabled,
            "delete": EndpointState.deleted,
        },
        EndpointState.deleted: {},
    },
    meaning={
        EndpointState.enabled: "It is sent what it subscribed to, until it fails for too long, "
        "answers 410 or an operator disables it.",
        EndpointState.disabled: "Its deliveries are held, not lost; enabling it sends them.",
        EndpointState.deleted: "It is sent nothing and its open deliveries are cancelled; the row "
        "stays for the record.",
    },
)


class DeliveryState(StrEnum):
    """Life of one message on its way to one endpoint."""

    pending = "pending"
    sending = "sending"
    held = "held"
    delivered = "delivered"
    dead = "dead"
    cancelled = "cancelled"


DELIVERY: Final = Machine(
    name="Delivery",
    states=DeliveryState,
    initial=DeliveryState.pending,
    transitions={
        DeliveryState.pending: {
            "claim": DeliveryState.sending,
            "hold": DeliveryState.held,
            "cancel": DeliveryState.cancelled,
            "skip": DeliveryState.cancelled,
        },
        DeliveryState.sending: {
            "succeed": DeliveryState.delivered,
            "retry": DeliveryState.pending,
            "lose_lease": DeliveryState.pending,
            "give_up": DeliveryState.dead,
            "hold": DeliveryState.held,
            "cancel": DeliveryState.cancelled,
        },
        DeliveryState.held: {
            "release": DeliveryState.pending,
            "cancel": DeliveryState.cancelled,
            "skip": DeliveryState.cancelled,
        },
        DeliveryState.delivered: {"replay": DeliveryState.pending},
        DeliveryState.dead: {"replay": DeliveryState.pending, "skip": DeliveryState.cancelled},
        DeliveryState.cancelled: {},
    },
    meaning={
        DeliveryState.pending: "Due now, or waiting for its next attempt; the sender claims it "
        "when it is due.",
        DeliveryState.sending: "Leased by one sender that is making an attempt: pending in its "
        "table, with a row in `delivery_leases`; the outcome moves it on, a lease that runs out "
        "makes it pending again.",
        DeliveryState.held: "Its endpoint is disabled or can not be signed for; it waits, without "
        "spending attempts, until that is mended.",
        DeliveryState.delivered: "The endpoint answered 2xx in time; nothing follows unless an "
        "operator sends it again.",
        DeliveryState.dead: "It spent its attempts; it waits for an operator to replay it and is "
        "kept at least 30 days.",
        DeliveryState.cancelled: "Its endpoint was deleted before it arrived, or an operator "
        "skipped it; nothing follows.",
    },
)


OPEN_DELIVERY_STATES: Final = frozenset(
    {DeliveryState.pending, DeliveryState.sending, DeliveryState.held}
)
"""Deliveries that have yet to arrive; deleting their endpoint cancels them."""


STORED_DELIVERY_STATES: Final = tuple(
    state for state in DeliveryState if state is not DeliveryState.sending
)
"""What a delivery's own row may say. One that is being sent is pending there, and has a lease."""


SKIPPABLE_DELIVERY_STATES: Final = frozenset(
    {DeliveryState.pending, DeliveryState.held, DeliveryState.dead}
)
"""Deliveries that an operator can give up; one that is under way is waited for."""


REPLAYABLE_DELIVERY_STATES: Final = frozenset({DeliveryState.delivered, DeliveryState.dead})
"""Deliveries that an operator can send again under the same id."""
