"""The tables of states are closed, reachable, and the ones that docs/states.md shows."""

from enum import StrEnum
from pathlib import Path

import pytest

from models.rules import states
from models.rules.states import MACHINES, DeliveryState, InvoiceState, Machine, drawing

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"
WRITE = "python -m worker.reference"

TERMINAL = {
    "Credit batch": {"EXPIRED", "REVOKED"},
    "Reservation": {"committed", "released", "expired"},
    "Order": {"refunded", "cancelled"},
    "Invoice": {"paid", "void"},
    "Endpoint": {"deleted"},
    "Delivery": {"cancelled"},
    "Rejected message": {"replayed", "discarded"},
    "Archive of usage": {"forgotten"},
    "Invoice at a provider": set(),
}

each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


def reachable(machine: Machine) -> set[StrEnum]:
    seen: set[StrEnum] = set()
    ahead = [machine.initial]
    while ahead:
        state = ahead.pop()
        if state not in seen:
            seen.add(state)
            ahead.extend(machine.transitions[state].values())
    return seen


def test_the_document_shows_the_tables() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == drawing.to_markdown(MACHINES), f"run: {WRITE}"


def test_every_state_enum_has_one_machine() -> None:
    enums = {
        value
        for value in vars(states).values()
        if isinstance(value, type) and issubclass(value, StrEnum) and value is not StrEnum
    }
    assert enums == {machine.states for machine in MACHINES}
    assert len(enums) == len(MACHINES) == len({machine.name for machine in MACHINES})


@each_machine
def test_every_state_is_in_the_table_and_has_a_meaning(machine: Machine) -> None:
    assert set(machine.transitions) == set(machine.states)
    assert set(machine.meaning) == set(machine.states)
    assert all(isinstance(state, machine.states) for state in machine.transitions)
    assert all(text.endswith(".") and "|" not in text for text in machine.meaning.values())


@each_machine
def test_every_event_leads_to_another_state_of_the_machine(machine: Machine) -> None:
    for source, events in machine.transitions.items():
        for target in events.values():
            assert isinstance(target, machine.states)
            assert target is not source


@each_machine
def test_every_state_can_be_reached(machine: Machine) -> None:
    assert reachable(machine) == set(machine.states)


@each_machine
def test_what_ends_is_what_was_meant_to_end(machine: Machine) -> None:
    assert machine.terminal == TERMINAL[machine.name]


def test_a_refunded_order_can_not_be_paid_again() -> None:
    assert states.ORDER.transitions[states.OrderState.refunded] == {}


def test_the_named_subsets_are_what_the_moves_say() -> None:
    assert {InvoiceState.draft, InvoiceState.void} == (
        set(InvoiceState) - states.FINAL_INVOICE_STATES
    )
    assert {
        state for state in InvoiceState if "pay" in states.INVOICE.transitions[state]
    } == states.OWED_INVOICE_STATES
    assert {
        state for state in DeliveryState if "cancel" in states.DELIVERY.transitions[state]
    } == states.OPEN_DELIVERY_STATES
    assert {
        state for state in DeliveryState if "skip" in states.DELIVERY.transitions[state]
    } == states.SKIPPABLE_DELIVERY_STATES
    assert {
        state for state in DeliveryState if "replay" in states.DELIVERY.transitions[state]
    } == states.REPLAYABLE_DELIVERY_STATES
