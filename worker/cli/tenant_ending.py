"""Tenants that come to an end: part of another one, or forgotten."""

from typing import Annotated

import typer

from tasks.erasure import erase_tenant
from tasks.merging import merge_customers, move_merged_usage, preview_merge
from worker.cli import printing
from worker.cli.printing import Actor, AsJson, Key, Reason, Tenant

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def merge(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Who becomes part.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Of whom; it stays.")],
    *,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.")] = None,
    actor: Actor = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would move, or what stands in the way.")
    ] = False,
    yes: Yes = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make one tenant part of another; it can not be undone. Says all that stands in the way."""
    printing.prepare()
    if dry_run:
        _preview(source, target, as_json=as_json)
        return
    if not yes:
        typer.confirm(f"Make {source} part of {target} for good?", abort=True, err=True)
    answer = merge_customers(
        source=source,
        target=target,
        reason=reason,
        actor=printing.actor_or_user(actor),
        idempotency_key=printing.key_or_new(key),
    )
    usage = move_merged_usage()
    if as_json:
        printing.print_json({**answer, "usage": usage})
        return
    typer.echo(f"{source} is {target} from now on")
    for table, count in sorted(answer["moved"].items()):
        typer.echo(f"  {table}: {count:,}")
    typer.echo(f"  usage events: {usage['moved']:,}" + ("" if usage["is_done"] else " so far"))
    if usage["conflicts"]:
        typer.echo(
            f"  {usage['conflicts']:,} events have a key that {target} used for another one; "
            "`billing rejected list` shows them"
        )


def erase(
    tenant: Tenant,
    *,
    reason: Reason,
    actor: Actor = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also while something is owed or runs; it goes on.")
    ] = False,
    yes: Yes = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Forget who a tenant is, for good; ledger, usage and invoices are kept."""
    printing.prepare()
    if not yes:
        typer.confirm(f"Forget for good who {tenant} is?", abort=True, err=True)
    answer = erase_tenant(
        tenant_id=tenant,
        reason=reason,
        actor=printing.actor_or_user(actor),
        force=force,
        idempotency_key=printing.key_or_new(key),
    )
    rows = sum(answer["changed"].values())
    said = f"{answer['tenant_id']} is erased: {rows:,} rows changed, the books are kept"
    printing.say(answer, said, as_json=as_json)


def _preview(source: str, target: str, *, as_json: bool) -> None:
    found = preview_merge(source=source, target=target)
    if as_json:
        printing.print_json(found)
    elif found["conflicts"]:
        typer.echo(f"{source} can not be merged into {target}:")
        for one in found["conflicts"]:
            typer.echo(f"  {one['kind']}: {one['reason']}")
    else:
        typer.echo(f"{source} would be {target}; nothing changed: a dry run")
        for table, count in sorted(found["moved"].items()):
            typer.echo(f"  {table}: {count:,}")
    if found["conflicts"]:
        raise typer.Exit(1)
