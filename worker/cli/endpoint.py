"""Endpoints: where webhooks go."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from models.outbox import SecretKind
from tasks.endpoint_list import EndpointEntry, get_endpoint, list_endpoints
from tasks.endpoint_update import update_endpoint
from tasks.endpoints import create_endpoint, delete_endpoint, disable_endpoint, enable_endpoint
from worker.cli import endpoint_keys, endpoint_view, endpoint_watch, kinds, printing
from worker.cli.endpoint_keys import EndpointId
from worker.cli.printing import AsJson, Key, Limit

app = typer.Typer(help="Where webhooks go.", no_args_is_help=True)


class Shown(StrEnum):
    """Which endpoints are listed."""

    enabled = "enabled"
    disabled = "disabled"


OfTenant = Annotated[
    str | None, typer.Option("--tenant", help="Only if it is this tenant's.", show_default=False)
]
Topics = Annotated[
    list[str] | None,
    typer.Option(
        "--topic",
        help='What it hears of: a type, "billing.invoice.*" (children only) or "*"; several times.',
        metavar="PATTERN",
    ),
]
Header = Annotated[
    list[str] | None,
    typer.Option(help="Sent with each request; several times.", metavar="'NAME: VALUE'"),
]
Description = Annotated[str | None, typer.Option(help="For people.")]
Rate = Annotated[int | None, typer.Option("--rate", help="At most so many a minute.", min=1)]
Metadata = Annotated[
    dict[str, Any] | None,
    typer.Option(help="Data of your own.", metavar="JSON", parser=kinds.json_object),
]


@app.command()
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="https, unless http is allowed.")],
    *,
    topic: Topics = None,
    tenant: Annotated[str | None, typer.Option(help="Whose events it gets.")] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="It gets every tenant's events.")
    ] = False,
    description: Description = None,
    header: Header = None,
    ordered: Annotated[bool, typer.Option("--ordered", help="One after another.")] = False,
    rate: Rate = None,
    metadata: Metadata = None,
    signature: Annotated[SecretKind, typer.Option(help="How it is signed for.")] = SecretKind.hmac,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make an endpoint and print its secret, which is not shown again."""
    headers = _headers(header, removable=False)
    printing.prepare()
    answer = create_endpoint(
        url=url,
        topics=topic or ["*"],
        tenant_id=tenant,
        operator=operator,
        description=description,
        headers=headers,
        ordered=ordered,
        rate_per_minute=rate,
        metadata=metadata,
        signature=signature,
        idempotency_key=printing.key_or_new(key),
    )
    if as_json:
        printing.print_json(answer)
        return
    typer.echo(f"made endpoint {answer['endpoint_id']}\n{endpoint_view.key(answer)}")


@app.command("list")
def print_list(
    *,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    operator: Annotated[
        bool | None,
        typer.Option(
            "--operator/--no-operator",
            help="The operator's own, which hear of all tenants, or no such.",
            show_default=False,
        ),
    ] = None,
    state: Annotated[Shown | None, typer.Option(help="In one state.", show_default=False)] = None,
    topic: Annotated[str | None, typer.Option(help="That asked for this type.")] = None,
    limit: Limit = 200,
    as_json: AsJson = False,
) -> None:
    """List endpoints, the oldest first."""
    printing.prepare()
    found: list[EndpointEntry] = []
    after: UUID | None = None
    while len(found) < limit:
        page = list_endpoints(
            tenant_id=tenant,
            operator=operator,
            state=None if state is None else state.value,
            topic=topic,
            after=after,
            limit=min(200, limit - len(found)),
        )
        found += page["endpoints"]
        if page["next_after"] is None:
            break
        after = UUID(page["next_after"])
    if as_json:
        printing.print_json(found)
        return
    printing.print_table(endpoint_view.table(found), found, None, "endpoints")


@app.command()
def show(endpoint_id: EndpointId, *, tenant: OfTenant = None, as_json: AsJson = False) -> None:
    """Show one with its keys, but no secret."""
    printing.prepare()
    found = get_endpoint(endpoint_id=endpoint_id, tenant_id=tenant)
    if as_json:
        printing.print_json(found)
        return
    printing.console().print(endpoint_view.details(found))


@app.command()
def update(
    endpoint_id: EndpointId,
    *,
    tenant: OfTenant = None,
    url: Annotated[str | None, typer.Option(help="Where to instead.")] = None,
    topic: Topics = None,
    description: Description = None,
    header: Annotated[
        list[str] | None,
        typer.Option(help="Set; 'NAME:' takes it away.", metavar="'NAME: VALUE'"),
    ] = None,
    ordered: Annotated[
        bool | None,
        typer.Option("--ordered/--unordered", help="Disable it first.", show_default=False),
    ] = None,
    rate: Rate = None,
    metadata: Metadata = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(help="description, rate_per_minute, headers or metadata; several times."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays."""
    headers = _headers(header, removable=True)
    printing.prepare()
    answer = update_endpoint(
        endpoint_id=endpoint_id,
        tenant_id=tenant,
        url=url,
        topics=topic,
        description=description,
        headers=headers,
        ordered=ordered,
        rate_per_minute=rate,
        metadata=metadata,
        clear=clear,  # type: ignore[arg-type]  # as a message, which it checks
    )
    if as_json:
        printing.print_json(answer)
        return
    typer.echo(f"changed {', '.join(answer['changed'])}" if answer["changed"] else "it is so")


@app.command()
def enable(endpoint_id: EndpointId, *, tenant: OfTenant = None, as_json: AsJson = False) -> None:
    """Send it its events again; what was held is due at once."""
    printing.prepare()
    _print_state(enable_endpoint(endpoint_id=endpoint_id, tenant_id=tenant), as_json=as_json)


@app.command()
def disable(endpoint_id: EndpointId, *, tenant: OfTenant = None, as_json: AsJson = False) -> None:
    """Send it nothing more until it is enabled; what is due is held, not lost."""
    printing.prepare()
    _print_state(disable_endpoint(endpoint_id=endpoint_id, tenant_id=tenant), as_json=as_json)


@app.command()
def delete(
    endpoint_id: EndpointId,
    *,
    tenant: OfTenant = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete it for good: its keys are destroyed, what was due to it is cancelled."""
    printing.prepare()
    if not yes:
        found = get_endpoint(endpoint_id=endpoint_id, tenant_id=tenant)
        typer.confirm(f"delete the endpoint at {found['url']} for good?", abort=True, err=True)
    _print_state(delete_endpoint(endpoint_id=endpoint_id, tenant_id=tenant), as_json=as_json)


app.command()(endpoint_watch.ping)
app.command()(endpoint_watch.stats)
app.command("rotate-secret")(endpoint_keys.rotate_secret)
app.command("revoke-secret")(endpoint_keys.revoke_secret)


def _print_state(answer: Any, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(answer)
    else:
        typer.echo(f"endpoint {answer['endpoint_id']} is {answer['state']}")


def _headers(given: list[str] | None, *, removable: bool) -> Any:
    """Headers by name; None for no value, where that takes one away."""
    if given is None:
        return None
    found: dict[str, str | None] = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon or not (value.strip() or removable):
            # Without the value: it may be a credential.
            raise typer.BadParameter(
                f"{name[:40]!r} must be a name, a colon and a value", param_hint="--header"
            )
        found[name.strip()] = value.strip() or None
    return found
