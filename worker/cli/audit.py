"""`billing audit`."""

import datetime as dt
from collections import Counter
from typing import Annotated, Any

import typer

from tasks.credit_upkeep import audit as audit_credit
from worker.cli import printing
from worker.cli.printing import AsJson, number


def audit(
    *,
    after: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Begin behind this account.", metavar="TENANT PRODUCT"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that ledger, batches, holds and balances agree. Exit status 1 if they do not.

    Each finding says what was compared, where, and what to do. It is told to the operator's
    endpoints as well, once a day.
    """
    # Nothing is sent from here: what is left when a run's time is up is taken up at once.
    printing.prepare()
    findings = _findings(after or ("", ""))
    if as_json:
        printing.print_json({"ok": not findings, "findings": findings})
    else:
        for finding in findings:
            typer.echo(_line(finding))
        typer.echo(_summary(findings))
    if findings:
        raise typer.Exit(1)


def _findings(after: tuple[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    behind: Any = after
    # One instant for all parts: they are one run.
    now = dt.datetime.now(dt.UTC)
    while behind is not None:
        answer: dict[str, Any] = dict(audit_credit(after=behind, as_of=now))
        found += answer["findings"]
        behind = answer["next_after"]
    return found


def _line(finding: dict[str, Any]) -> str:
    where = f"{finding['tenant_id']} {finding['product_key']}"
    if finding["batch_id"] is not None:
        where += f" batch {finding['batch_id']}"
    if finding["entry_id"] is not None:
        where += f" entry {finding['entry_id']}"
    if finding["reservation_id"] is not None:
        where += f" reservation {finding['reservation_id']}"
    figures = f"expected {number(finding['expected'])}, found {number(finding['actual'])}"
    return f"{finding['check']}: {where}: {figures}; {finding['advice']}"


def _summary(findings: list[dict[str, Any]]) -> str:
    if not findings:
        return "ledger, batches, holds and balances agree"
    checks = Counter(finding["check"] for finding in findings)
    told = ", ".join(f"{count:,} of {check}" for check, count in sorted(checks.items()))
    return f"{len(findings):,} finding{'' if len(findings) == 1 else 's'}: {told}"
