"""The `billing` command."""

import sys
from typing import Annotated, Any

import typer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from rich.console import Console

from models import database, failures, migrations
from models.rules.refusal import Refusal
from tasks import contract, origin
from worker import boot, local, processes, settings, stack
from worker.cli import (
    audit,
    batch,
    call,
    catalog,
    delivery,
    demo,
    doctor,
    endpoint,
    entitlement,
    invoice,
    invoice_generating,
    keys,
    meter,
    metrics,
    naming,
    offer,
    order,
    parked,
    plan,
    product,
    quote,
    referral,
    rejected,
    reservation,
    run,
    schema,
    sizing,
    status,
    subscription,
    sync,
    tenant,
    trial,
    up,
    usage,
    wallet,
)

EXIT_UNUSABLE = 2
"""Exit status when things are not as they must be; 1 says that what was asked for failed."""

EXPECTED = (
    settings.InvalidSettings,
    local.AlreadyRunning,
    migrations.Blocked,
    local.NoSafeFolder,
    local.NotInstalled,
    local.ServerFailed,
    boot.DatabaseAhead,
    boot.DatabaseBehind,
    boot.DatabaseUnreachable,
    processes.ChildFailed,
    stack.PortTaken,
)

app = typer.Typer(
    name="billing",
    cls=naming.Group,
    help="A billing back office: workers, schedule, webhooks.",
    no_args_is_help=True,
    add_completion=False,
    # The pretty ones print local variables, and those are payloads and secrets.
    pretty_exceptions_enable=False,
)


@app.callback()
def begin(
    context: typer.Context,
    correlation: Annotated[
        str | None,
        typer.Option(help="An id for the log lines of all that comes of this.", metavar="ID"),
    ] = None,
) -> None:
    """A billing back office: workers, schedule, webhooks."""
    context.call_on_close(database.dispose)
    if correlation is None:
        return
    try:
        context.with_resource(origin.within(origin.Origin(correlation)))
    except origin.InvalidCorrelationId as error:
        raise typer.BadParameter(str(error), param_hint="--correlation") from None


app.command()(up.up)
app.command()(demo.demo)
app.command()(run.worker)
app.command()(run.beat)
app.command()(run.flower)
app.command()(run.migrate)
app.command()(call.call)
app.command()(quote.quote)
app.command()(doctor.doctor)
app.command()(status.status)
app.command()(metrics.metrics)
app.command()(audit.audit)
app.command()(sizing.sizing)
app.add_typer(usage.app, name="usage")
app.add_typer(meter.app, name="meter")
app.add_typer(entitlement.app, name="entitlement")
app.add_typer(wallet.app, name="wallet")
app.add_typer(catalog.app, name="catalog")
app.add_typer(product.app, name="product")
app.add_typer(offer.app, name="offer")
app.add_typer(batch.app, name="batch")
app.add_typer(order.app, name="order")
app.add_typer(trial.app, name="trial")
app.add_typer(referral.app, name="referral")
invoice.app.command()(invoice_generating.generate)
invoice.app.command()(parked.parked)
invoice.app.command()(parked.retry)
app.add_typer(invoice.app, name="invoice")
app.add_typer(sync.app, name="sync")
app.add_typer(plan.app, name="plan")
app.add_typer(subscription.app, name="subscription")
app.add_typer(plan.prices, name="price")
app.add_typer(tenant.app, name="tenant")
app.add_typer(reservation.app, name="reservation")
app.add_typer(endpoint.app, name="endpoint")
app.add_typer(delivery.app, name="delivery")
app.add_typer(rejected.app, name="rejected")
app.add_typer(schema.app, name="schema")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the `billing` command; what people can mend is said in one line, without a traceback."""
    try:
        app()
    except contract.InvalidMessage as invalid:
        said = "; ".join(map(_fault, invalid.errors)) or invalid.message
        _fail(f"{said} [{invalid.code}]", status=1)
    except Refusal as refusal:
        _fail(f"{refusal.message} [{refusal.code}]", status=1)
    except EXPECTED as error:
        _fail(str(error))
    except (OperationalError, RedisError) as error:
        _fail(f"the broker can not be reached: {error}")
    except Exception as error:
        if not failures.is_unreachable(error):
            raise
        _fail(f"the database can not be reached: {failures.reason(error)}")


def _fault(error: dict[str, Any]) -> str:
    """What is wrong with one argument: its name, its value where it is short, and the reason."""
    named = " ".join(str(error[part]) for part in ("field", "value") if error.get(part))
    return f"{named}: {error['reason']}"


def _fail(message: str, *, status: int = EXIT_UNUSABLE) -> None:
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"billing: {message}")
    sys.exit(status)
