"""Trials: an offer to try, once for each identity."""

from typing import Annotated, Any

import typer

from tasks.trials import check_trial, grant_trial
from worker.cli import printing
from worker.cli.printing import AsJson, number

app = typer.Typer(help="Offers to try, once for each identity.", no_args_is_help=True)

Sku = Annotated[str, typer.Argument(metavar="SKU", help="The offer to try.")]
Identities = Annotated[
    list[str],
    typer.Argument(metavar="PROVIDER:ID…", help="Who tries it, such as email:ann@acme.example."),
]

USED = "one of these has had a trial"


@app.command()
def grant(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Who gets it.")],
    sku: Sku,
    identities: Identities,
    *,
    as_json: AsJson = False,
) -> None:
    """Grant an offer to be tried. Exit status 1 if one of the identities has had a trial."""
    who = [_identity(one) for one in identities]
    printing.prepare()
    answer: dict[str, Any] = dict(grant_trial(tenant_id=tenant, sku=sku, identities=who))
    if not answer["granted"]:
        printing.refuse(answer, f"nothing was granted: {USED}", as_json=as_json)
    batches = ", ".join(
        f"{number(one['amount'])} of {one['product_key']} until "
        f"{printing.instant(one['expires_at'], otherwise='further notice')}"
        for one in answer["batches"]
    )
    said = f"{tenant} tries {answer['sku']}: {batches}, trial {answer['trial_id']}"
    printing.say(answer, said, as_json=as_json)


@app.command()
def check(sku: Sku, identities: Identities, *, as_json: AsJson = False) -> None:
    """Tell whether an offer could be tried. Exit status 1 if not."""
    who = [_identity(one) for one in identities]
    printing.prepare()
    answer = check_trial(sku=sku, identities=who)
    if not answer["eligible"]:
        printing.refuse(answer, USED, as_json=as_json)
    printing.say(answer, "none of these has had a trial", as_json=as_json)


def _identity(text: str) -> Any:
    provider, colon, external_id = text.partition(":")
    if not colon:
        raise typer.BadParameter(
            "an identity must be PROVIDER:ID, such as email:ann@acme.example",
            param_hint="PROVIDER:ID",
        )
    return {"provider": provider, "external_id": external_id}
