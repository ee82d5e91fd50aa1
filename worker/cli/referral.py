"""Referrals: who brought whom, and what both got for it."""

from typing import Annotated, Any

import typer
from rich.table import Table

from tasks.referral_bonus import claim_referral_bonus
from tasks.referral_programs import DEFAULT, list_referral_programs, set_referral_program
from tasks.referrals import attach_referral, get_referral_stats, list_referrals
from worker.cli import printing
from worker.cli.printing import AsJson, Limit, Tenant, number

app = typer.Typer(help="Who brought whom, and what both get.", no_args_is_help=True)

WHY_NOT = {
    "no_paid_order": "it has paid for no order yet",
    "paid_before_referral": "it had paid for an order before it was brought",
}


@app.command("list")
def print_list(
    *,
    referrer: Annotated[str | None, typer.Option(help="Whom this tenant has brought.")] = None,
    rewarded: Annotated[
        bool | None,
        typer.Option(
            "--rewarded/--pending", help="Whether it has paid its bonus.", show_default=False
        ),
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List referrals, newest first."""
    printing.prepare()
    found = list_referrals(referrer_tenant_id=referrer, rewarded=rewarded, limit=limit)
    if as_json:
        printing.print_json(found["referrals"])
        return
    table = Table("referrer", "referee", "programme", "attached", "bonus", "order")
    for one in found["referrals"]:
        table.add_row(
            one["referrer_tenant_id"],
            one["referee_tenant_id"],
            one["program_key"],
            printing.instant(one["attached_at"]),
            printing.instant(one["claimed_at"], otherwise=""),
            str(one["order_id"] or ""),
        )
    printing.print_table(table, found["referrals"], found["next_cursor"], "referrals")


@app.command()
def stats(tenant: Tenant, *, as_json: AsJson = False) -> None:
    """Tell how many tenants one has brought, and who has brought it."""
    printing.prepare()
    answer = get_referral_stats(tenant_id=tenant)
    brought = answer["brought_by"]
    said = (
        f"{tenant} has brought {answer['referred']:,}: {answer['rewarded']:,} with a bonus, "
        f"{answer['pending']:,} without"
    )
    if brought is not None:
        said += f"; it was brought by {brought['referrer_tenant_id']}"
    printing.say(answer, said, as_json=as_json)


@app.command()
def attach(
    tenant: Annotated[str, typer.Argument(metavar="REFEREE", help="Who was brought.")],
    referrer: Annotated[str, typer.Argument(metavar="REFERRER", help="Who brought it.")],
    *,
    program: Annotated[str, typer.Option(help="Which programme.")] = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Say that one tenant was brought by another."""
    printing.prepare()
    answer = attach_referral(tenant_id=tenant, referrer_tenant_id=referrer, program_key=program)
    printing.say(answer, f"{tenant} was brought by {referrer}", as_json=as_json)


@app.command()
def claim(
    tenant: Annotated[str, typer.Argument(metavar="REFEREE", help="Who was brought.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Give both sides their bonus. Exit status 1 if there is no order for it."""
    printing.prepare()
    answer: dict[str, Any] = dict(claim_referral_bonus(tenant_id=tenant))
    if not answer["claimed"]:
        why = WHY_NOT[answer["reason"]]
        printing.refuse(answer, f"nothing was given to {tenant}: {why}", as_json=as_json)
    said = "; ".join(
        f"{answer[f'{side}_tenant_id']} got {_batches(answer[f'{side}_batches'])}"
        for side in ("referrer", "referee")
    )
    printing.say(answer, f"{said}, for order {answer['order_id']}", as_json=as_json)


@app.command("program")
def set_program(
    key: Annotated[str, typer.Argument(metavar="PROGRAM", help="Which programme.")] = DEFAULT,
    *,
    referrer_sku: Annotated[str | None, typer.Option(help="What who brings gets.")] = None,
    referee_sku: Annotated[str | None, typer.Option(help="What who is brought gets.")] = None,
    active: Annotated[
        bool, typer.Option("--active/--inactive", help="Whether it pays bonuses.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Make a programme be what is given: an offer for each side that gets something."""
    printing.prepare()
    answer = set_referral_program(
        program_key=key, referrer_sku=referrer_sku, referee_sku=referee_sku, active=active
    )
    said = (
        f"programme {answer['program_key']}: {answer['referrer_sku'] or 'nothing'} for who brings, "
        f"{answer['referee_sku'] or 'nothing'} for who is brought"
    )
    printing.say(answer, said, as_json=as_json)


@app.command("programs")
def print_programs(*, as_json: AsJson = False) -> None:
    """List programmes by key."""
    printing.prepare()
    found = list_referral_programs()["programs"]
    if as_json:
        printing.print_json(found)
        return
    table = Table("programme", "for who brings", "for who is brought", "active")
    for one in found:
        table.add_row(
            one["program_key"],
            one["referrer_sku"] or "",
            one["referee_sku"] or "",
            "yes" if one["active"] else "no",
        )
    printing.print_table(table, found, None, "programmes")


def _batches(batches: list[dict[str, Any]]) -> str:
    listed = ", ".join(f"{number(one['amount'])} of {one['product_key']}" for one in batches)
    return listed or "nothing"
