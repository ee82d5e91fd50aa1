"""`billing usage record`: one usage event by hand."""

import datetime as dt
from typing import Annotated, Any

import typer

from tasks.usage import record_usage
from worker.cli import kinds, printing
from worker.cli.printing import AsJson, Key, Tenant


def record(
    tenant: Tenant,
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="What was used.")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="How much.", parser=kinds.usage)],
    *,
    at: Annotated[
        dt.datetime | None,
        typer.Option(
            help="When it happened.", metavar="INSTANT", show_default="now", parser=kinds.instant
        ),
    ] = None,
    metadata: Annotated[
        dict[str, Any] | None,
        typer.Option(help="An object of JSON.", metavar="JSON", parser=kinds.json_object),
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Store one usage event; beat counts it within seconds."""
    printing.prepare()
    given: dict[str, Any] = {"at": at, "metadata": metadata}
    answer = record_usage(
        tenant_id=tenant,
        metric=metric,
        amount=amount,
        idempotency_key=printing.key_or_new(key),
        **{name: value for name, value in given.items() if value is not None},
    )
    printing.say(answer, _said(answer, f"{amount} {metric} of {tenant}"), as_json=as_json)


def _said(answer: Any, event: str) -> str:
    if answer["duplicate"]:
        return f"{event} was stored before, under this key"
    return f"{event} is stored"
