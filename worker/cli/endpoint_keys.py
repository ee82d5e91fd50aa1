"""Signing keys of endpoints: rotated and revoked."""

from typing import Annotated
from uuid import UUID

import typer

from models.outbox import SecretKind
from tasks.endpoint_secrets import DAY, revoke_endpoint_secret, rotate_endpoint_secret
from worker.cli import endpoint_view, kinds, printing
from worker.cli.printing import AsJson, Key

EndpointId = Annotated[
    UUID, typer.Argument(metavar="ENDPOINT", help="Its id.", parser=kinds.named("endpoint"))
]
OfTenant = Annotated[
    str | None, typer.Option("--tenant", help="Only if it is this tenant's.", show_default=False)
]


def rotate_secret(
    endpoint_id: EndpointId,
    *,
    tenant: OfTenant = None,
    signature: Annotated[SecretKind, typer.Option(help="Of the new key.")] = SecretKind.hmac,
    keep: Annotated[
        float, typer.Option(help="Hours that old keys sign beside it, up to 168.", min=0, max=168)
    ] = 24,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key and print its secret, which is not shown again."""
    printing.prepare()
    seconds = round(keep / 24 * DAY)
    answer = rotate_endpoint_secret(
        endpoint_id=endpoint_id,
        tenant_id=tenant,
        signature=signature,
        keep_old_seconds=seconds,
        idempotency_key=printing.key_or_new(key),
    )
    if as_json:
        printing.print_json(answer)
        return
    old = f"older keys sign beside it for {keep:g} h"
    typer.echo(f"made key {answer['secret_id']}; {old}\n{endpoint_view.key(answer)}")


def revoke_secret(
    endpoint_id: EndpointId,
    secret_id: Annotated[
        UUID,
        typer.Argument(
            metavar="KEY",
            help="As `show` names it.",
            parser=kinds.named("key", by="billing endpoint show"),
        ),
    ],
    *,
    tenant: OfTenant = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Destroy a key at once."""
    printing.prepare()
    answer = revoke_endpoint_secret(
        endpoint_id=endpoint_id,
        secret_id=secret_id,
        tenant_id=tenant,
        idempotency_key=printing.key_or_new(key),
    )
    if as_json:
        printing.print_json(answer)
        return
    typer.echo(f"revoked; live keys: {', '.join(answer['live'])}")
