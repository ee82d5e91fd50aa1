"""`billing invoice generate`: the billing run by hand, or one period of one tenant."""

import datetime as dt
from typing import Annotated, Any

import typer

from tasks.invoice_runs import generate_invoices
from tasks.invoices import generate_monthly_invoice
from worker.cli import invoice_named, kinds, printing
from worker.cli.invoice_named import AsOf
from worker.cli.printing import AsJson


def generate(
    tenant: Annotated[
        str | None, typer.Argument(metavar="[TENANT]", help="Whose.", show_default="everybody's")
    ] = None,
    *,
    month: Annotated[
        dt.date | None,
        typer.Option(help="This month alone.", metavar="MONTH", parser=kinds.month),
    ] = None,
    first: Annotated[
        dt.date | None,
        typer.Option(
            "--from", help="This period alone, from this day.", metavar="DAY", parser=kinds.day
        ),
    ] = None,
    until: Annotated[
        dt.date | None,
        typer.Option(help="The day after its last one.", metavar="DAY", parser=kinds.day),
    ] = None,
    currency: Annotated[
        str | None,
        typer.Option(
            help="Of the period's invoice.",
            metavar="CODE",
            show_default="the tenant's",
            parser=kinds.currency,
        ),
    ] = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Make the drafts of all periods that are over, as beat does; or of one period."""
    given = invoice_named.at(as_of)
    days = _period(month, first, until)
    if days is None:
        if currency is not None:
            raise typer.BadParameter("goes with --month or --from", param_hint="--currency")
        printing.prepare()
        _run(tenant, given, as_json=as_json)
        return
    if tenant is None:
        raise typer.BadParameter(
            "say whose period, as in `billing invoice generate acme --month 2026-01`",
            param_hint="TENANT",
        )
    printing.prepare()
    answer = generate_monthly_invoice(
        tenant_id=tenant, period_start=days[0], period_end=days[1], currency=currency, **given
    )
    invoice_named.say(answer, as_json=as_json)


def _period(
    month: dt.date | None, first: dt.date | None, until: dt.date | None
) -> tuple[dt.date, dt.date] | None:
    if month is not None:
        if first is not None or until is not None:
            raise typer.BadParameter("goes without --from and --until", param_hint="--month")
        return month, (month + dt.timedelta(days=31)).replace(day=1)
    if first is not None and until is not None:
        return first, until
    if first is None and until is None:
        return None
    raise typer.BadParameter("--from and --until go together", param_hint="--from")


def _run(tenant: str | None, given: dict[str, Any], *, as_json: bool) -> None:
    made, failed, is_finished = 0, 0, False
    while not is_finished:
        answer = generate_invoices(tenant_id=tenant, **given)
        made, failed = made + answer["invoices"], failed + answer["failed"]
        is_finished = answer["finished"]
    said = f"{made:,} {'draft' if made == 1 else 'drafts'} made"
    if failed:
        tenants = "1 tenant" if failed == 1 else f"{failed:,} tenants"
        said += f"; {tenants} could not be billed: `billing invoice parked` says why"
    elif not made:
        said = "nothing is due"
    printing.say({"invoices": made, "failed": failed}, said, as_json=as_json)
    if failed:
        raise typer.Exit(1)
