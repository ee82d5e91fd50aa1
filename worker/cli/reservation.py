"""Holds on credit: what is set aside, for what, and how it ends."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from models.rules.states import ReservationState
from models.store.reservation_bill import Above
from tasks.reservation_list import LONGEST_PAGE, get_reservation, list_reservations
from tasks.reservations import (
    commit_reserved_credits,
    release_reserved_credits,
    reserve_credits,
)
from worker.cli import kinds, printing
from worker.cli.printing import WIDE, WIDER, AsJson, Key, Tenant, instant, number

app = typer.Typer(help="Credit that is set aside.", no_args_is_help=True)


Id = Annotated[
    UUID, typer.Argument(metavar="ID", help="Which hold.", parser=kinds.named("reservation"))
]


@app.command("list")
def print_list(
    *,
    tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None,
    product: Annotated[str | None, typer.Option(help="Of one product.")] = None,
    state: Annotated[
        ReservationState | None, typer.Option(help="Which ones.", show_default="any")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List them, newest first."""
    printing.prepare()
    wanted = {"tenant_id": tenant, "product_key": product, "state": state}
    found = list(islice(_all(wanted), limit + 1))
    if as_json:
        printing.print_json(found[:limit])
        return
    console = printing.console()
    more = "more" if len(found) > limit else None
    printing.print_table(_table(found[:limit], console), found, more, "reservations")


@app.command()
def show(reservation_id: Id) -> None:
    """Print one as JSON, with the batches it set something aside of."""
    printing.prepare()
    printing.print_json(get_reservation(reservation_id=reservation_id))


@app.command()
def reserve(
    tenant: Tenant,
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="Of which product.")],
    amount: Annotated[
        Decimal, typer.Argument(metavar="AMOUNT", help="Units, above 0.", parser=kinds.amount)
    ],
    *,
    seconds: Annotated[
        int, typer.Option(help="How long, if nothing ends it before.", min=1, max=604_800)
    ] = 900,
    reason: Annotated[str | None, typer.Option(help="What for.")] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Set credit aside. Exit status 1 if there is too little."""
    arguments: dict[str, Any] = {"ttl_seconds": seconds, "reason": reason, "amount": amount}
    printing.prepare()
    answer: dict[str, Any] = dict(
        reserve_credits(
            tenant_id=tenant,
            product_key=product,
            idempotency_key=printing.key_or_new(key),
            **arguments,
        )
    )
    if not answer["reserved"]:
        there = number(answer["available"])
        said = f"nothing was set aside: {there} can be spent, {number(str(amount))} are needed"
        printing.refuse(answer, said, as_json=as_json)
    printing.say(
        answer,
        f"set aside {number(answer['amount'])} until {instant(answer['expires_at'])}: "
        f"{number(answer['available'])} left, reservation {answer['reservation_id']}",
        as_json=as_json,
    )


@app.command()
def commit(
    reservation_id: Id,
    *,
    amount: Annotated[
        Decimal | None,
        typer.Option(
            help="What was used; 0 is nothing.",
            show_default="all that is held",
            metavar="AMOUNT",
            parser=kinds.used_amount,
        ),
    ] = None,
    above: Annotated[
        Above, typer.Option(help="What to do if more was used than is held.")
    ] = Above.refuse,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Charge what was used; the rest goes back. Exit status 1 if nothing was charged."""
    arguments: dict[str, Any] = {"actual_amount": amount, "above": above}
    printing.prepare()
    answer: dict[str, Any] = dict(
        commit_reserved_credits(
            reservation_id=reservation_id, idempotency_key=printing.key_or_new(key), **arguments
        )
    )
    if not answer["committed"]:
        printing.refuse(
            answer, f"{reservation_id} {_why_not(answer)}: nothing was charged", as_json=as_json
        )
    parts = [f"{number(answer['returned'])} given back"]
    parts += [f"{number(answer[part])} {part}" for part in ("overdraft", "uncovered")]
    told = ", ".join(part for part in parts if not part.startswith("0 "))
    printing.say(
        answer,
        f"charged {number(answer['amount'])}{', ' + told if told else ''}: balance "
        f"{number(answer['balance'])}",
        as_json=as_json,
    )


@app.command()
def release(
    reservation_id: Id,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give back what one has set aside. Exit status 1 if it has ended before."""
    printing.prepare()
    answer: dict[str, Any] = dict(
        release_reserved_credits(
            reservation_id=reservation_id,
            reason=reason,
            idempotency_key=printing.key_or_new(key),
        )
    )
    if not answer["released"]:
        printing.refuse(
            answer, f"{reservation_id} {_why_not(answer)}: nothing was given back", as_json=as_json
        )
    printing.say(
        answer,
        f"gave back {number(answer['amount'])}: balance {number(answer['balance'])}",
        as_json=as_json,
    )


def _why_not(answer: dict[str, Any]) -> str:
    if answer["reason"] == "above_hold":
        return "holds less than that, and goes on"
    return f"was {answer['reason']} before"


def _all(wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    before = None
    while True:
        page: dict[str, Any] = dict(list_reservations(**wanted, before=before, limit=LONGEST_PAGE))
        yield from page["reservations"]
        before = page["next_before"]
        if before is None:
            return


def _table(found: Sequence[dict[str, Any]], console: Console) -> Table:
    table = Table()
    for heading in ("reservation", "tenant", "product", "state"):
        table.add_column(heading, no_wrap=heading != "tenant")
    for heading in ("held", "charged"):
        table.add_column(heading, justify="right", no_wrap=True)
    if console.width >= WIDE:
        table.add_column("until", no_wrap=True)
    if console.width >= WIDER:
        table.add_column("ended", no_wrap=True)
        table.add_column("what for")
    for row in found:
        cells = [
            row["reservation_id"],
            row["tenant_id"],
            row["product_key"],
            row["state"],
            number(row["amount"]),
            number(row["committed_amount"]),
            instant(row["expires_at"]),
            instant(row["closed_at"], otherwise=""),
            row["reason"] or "",
        ]
        table.add_row(*cells[: len(table.columns)])
    return table
