"""Which deliveries are in a sender's hands: those that have a row in `delivery_leases`.

In its own table such a delivery stays pending: a claim writes one narrow row, and none of the wide
table with all its indexes. Leases are made and deleted under the endpoint's lock, but for the
deletion that comes with a delivery's arrival.
"""

from typing import Final

from models.rules.states import DeliveryState

IS_LEASED: Final = "EXISTS (SELECT FROM delivery_leases l WHERE l.delivery_id = d.id)"
"""Of a delivery `d`, in SQL: it is being sent."""

STATE: Final = f"CASE WHEN d.state = 'pending' AND {IS_LEASED} THEN 'sending' ELSE d.state END"
"""Of a delivery `d`, in SQL: the state of its life cycle."""


def is_in(state: DeliveryState) -> str:
    """Return the condition that a delivery `d` is in a state, in SQL.

    Written out, so that an index of this state alone can be used.
    """
    match state:
        case DeliveryState.sending:
            return "d.id IN (SELECT delivery_id FROM delivery_leases)"
        case DeliveryState.pending:
            return f"d.state = 'pending' AND NOT {IS_LEASED}"
        case _:
            return f"d.state = '{state.value}'"
