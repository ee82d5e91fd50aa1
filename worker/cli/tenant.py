"""Tenants: who is billed, and by which names others know them."""

from typing import Annotated, Any

import typer
from rich.table import Table

from tasks.identities import find_tenant, identify, link_identity, unlink_identity
from tasks.tenant_list import get_tenant, list_tenants
from tasks.tenants import set_tenant
from worker.cli import kinds, printing, tenant_ending, tenant_import
from worker.cli.printing import AsJson, Limit

app = typer.Typer(help="Who is billed, and by which names.", no_args_is_help=True)
app.command("import")(tenant_import.import_)

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")]
Timezone = Annotated[
    str | None, typer.Option(help="IANA name.", metavar="NAME", parser=kinds.timezone)
]
Currency = Annotated[
    str | None, typer.Option(help="ISO 4217 code.", metavar="CODE", parser=kinds.currency)
]
Named = Annotated[
    str,
    typer.Argument(
        metavar="PROVIDER:ID", help="A name at a provider, such as google:10769150350006150715."
    ),
]


@app.command("identify")
def identify_(
    named: Named,
    *,
    name: Annotated[str | None, typer.Option(help="What to print on an invoice.")] = None,
    timezone: Timezone = None,
    currency: Currency = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="name, address, tax_number or metadata.KEY: not known any more."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print whose a name is; make the tenant if it is nobody's."""
    provider, external_id = _parted(named)
    given = {"name": name, "timezone": timezone, "currency": currency, "remove": remove or None}
    profile: Any = {field: value for field, value in given.items() if value is not None}
    printing.prepare()
    answer = identify(provider=provider, external_id=external_id, profile=profile or None)
    made = "a new tenant" if answer["created"] else "tenant"
    printing.say(answer, f"{made} {answer['tenant_id']}", as_json=as_json)


@app.command("set")
def set_(
    tenant: Tenant,
    *,
    name: Annotated[str | None, typer.Option(help="What to print on an invoice.")] = None,
    timezone: Timezone = None,
    currency: Currency = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            help="A line below the name on an invoice; again for the next.", metavar="LINE"
        ),
    ] = None,
    tax_number: Annotated[str | None, typer.Option(help="The tenant's own.")] = None,
    metadata: Annotated[
        dict[str, Any] | None,
        typer.Option(help="Data of your own, added.", metavar="JSON", parser=kinds.json_object),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Introduce a tenant, or change what is given; what is not given stays."""
    printing.prepare()
    answer = set_tenant(
        tenant_id=tenant,
        name=name,
        timezone=timezone,
        currency=currency,
        address="\n".join(address) if address else None,
        tax_number=tax_number,
        metadata=metadata,
    )
    named = "" if answer["name"] is None else f"{answer['name']}, "
    said = f"tenant {answer['tenant_id']}: {named}{answer['timezone']}, {answer['currency']}"
    printing.say(answer, said, as_json=as_json)


@app.command()
def show(tenant: Tenant, *, as_json: AsJson = False) -> None:
    """Show a tenant, by its id or as PROVIDER:ID; makes nothing."""
    printing.prepare()
    found: Any = _named(tenant) or get_tenant(tenant_id=tenant)
    if as_json:
        printing.print_json(found)
        return
    table = Table(show_header=False, box=None)
    for label, value in (
        ("tenant", found["tenant_id"]),
        ("name", found["name"] or ""),
        ("timezone", found["timezone"]),
        ("currency", found["currency"]),
        ("tax number", found["tax_number"] or ""),
        ("known as", ", ".join(map(_spelt, found["identities"]))),
        ("was also", ", ".join(found["aliases"])),
        ("since", printing.instant(found["created_at"])),
        ("erased", printing.instant(found["erased_at"], otherwise="no")),
    ):
        table.add_row(label, value)
    printing.console().print(table)


@app.command("list")
def print_list(
    *,
    prefix: Annotated[str, typer.Option(help="Of their ids.")] = "",
    merged: Annotated[
        bool | None,
        typer.Option("--merged/--not-merged", help="That became part of others, or did not."),
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List tenants by id."""
    printing.prepare()
    found = list_tenants(prefix=prefix, merged=merged, limit=limit)
    if as_json:
        printing.print_json(found["tenants"])
        return
    table = Table("tenant", "name", "timezone", "currency", "known as", "merged into")
    for one in found["tenants"]:
        names = ", ".join(map(_spelt, one["identities"]))
        row = (one["tenant_id"], one["name"] or "", one["timezone"], one["currency"], names)
        table.add_row(*row, one["merged_into"] or "")
    printing.print_table(table, found["tenants"], found["next_cursor"], "tenants")


@app.command()
def link(tenant: Tenant, named: Named, *, as_json: AsJson = False) -> None:
    """Let a tenant be known by one more name."""
    provider, external_id = _parted(named)
    printing.prepare()
    answer = link_identity(tenant_id=tenant, provider=provider, external_id=external_id)
    printing.say(answer, f"{named} is {answer['tenant_id']}", as_json=as_json)


@app.command()
def unlink(tenant: Tenant, named: Named, *, as_json: AsJson = False) -> None:
    """Let a tenant not be known by a name any more."""
    provider, external_id = _parted(named)
    printing.prepare()
    answer = unlink_identity(tenant_id=tenant, provider=provider, external_id=external_id)
    said = f"{named} is nobody's any more" if answer["changed"] else f"{named} was nobody's"
    printing.say(answer, said, as_json=as_json)


app.command()(tenant_ending.merge)
app.command()(tenant_ending.erase)


def _named(text: str) -> dict[str, Any] | None:
    """What a name of a provider leads to, if it is one: an id may hold a colon too."""
    provider, parted, external_id = text.partition(":")
    if not (provider and parted and external_id):
        return None
    try:
        found = find_tenant(provider=provider, external_id=external_id)["tenant"]
    except ValueError:
        return None
    return None if found is None else dict(found)


def _parted(named: str) -> tuple[str, str]:
    provider, parted, external_id = named.partition(":")
    if not (provider and parted and external_id):
        raise typer.BadParameter(
            f"{named!r} must be PROVIDER:ID, such as google:1076915", param_hint="PROVIDER:ID"
        )
    return provider, external_id


def _spelt(one: Any) -> str:
    return f"{one['provider']}:{one['external_id']}"
