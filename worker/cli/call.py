"""Send any task by name, and wait for its answer."""

import json
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from celery import states
from celery.exceptions import TimeoutError as NoAnswer
from kombu.exceptions import OperationalError

from models.rules.refusal import Refusal
from tasks import contract
from worker import boot, settings
from worker.celery import app as celery_app

CONNECT_SECONDS = 5.0


def call(
    task: Annotated[str, typer.Argument(help="The task's name, such as billing.set_tenant.")],
    message: Annotated[
        str,
        typer.Argument(
            help="Its arguments as a JSON object; @FILE reads it from a file, - from "
            "standard input.",
            metavar="JSON",
        ),
    ] = "{}",
    wait: Annotated[bool, typer.Option(help="Wait for the answer and print it.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=0.1)] = 60.0,
) -> None:
    """Send a task by name. Exit status 1 if it is refused, fails or does not answer in time."""
    _require_known(task)
    arguments = _arguments(message)
    chosen = boot.prepare()
    if wait and chosen.results() is None:
        raise settings.InvalidSettings(
            "this broker keeps no answers; set BILLING_RESULT_BACKEND, or give --no-wait"
        )
    _require_broker()
    sent = celery_app.send_task(task, kwargs=arguments, ignore_result=not wait)
    typer.echo(f"sent {task} {sent.id}", err=True)
    if wait:
        _print_answer(sent, timeout)


def _print_answer(sent: Any, timeout: float) -> None:
    try:
        answer = sent.get(timeout=timeout, propagate=False)
    except NoAnswer:
        typer.echo(
            f"no answer within {timeout:g} s; the message still waits, `billing doctor` tells "
            "whether a worker is there to take it",
            err=True,
        )
        raise typer.Exit(1) from None
    if sent.state != states.SUCCESS:
        code = f" [{answer.code}]" if isinstance(answer, Refusal) else ""
        typer.echo(f"{type(answer).__name__}: {answer}{code}", err=True)
        raise typer.Exit(1)
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _require_known(task: str) -> None:
    if task in contract.REGISTRY:
        return
    near = get_close_matches(task, contract.REGISTRY, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`billing schema tasks` lists them"
    raise typer.BadParameter(f"no task is named {task!r}; {hint}", param_hint="TASK")


def _arguments(message: str) -> dict[str, Any]:
    try:
        text = _text(message)
        arguments = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{message[1:]}: {error.strerror}", param_hint="JSON") from None
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="JSON") from None
    if not isinstance(arguments, dict):
        raise typer.BadParameter(
            'a task takes a JSON object, such as {"tenant_id": "acme"}', param_hint="JSON"
        )
    return arguments


def _text(message: str) -> str:
    if message == "-":
        return sys.stdin.read()
    return Path(message[1:]).read_text() if message.startswith("@") else message


def _require_broker() -> None:
    # Before sending: a client of Redis otherwise tries again for a long time without a word.
    with celery_app.connection_for_write(connect_timeout=CONNECT_SECONDS) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)
        except OSError as error:
            raise OperationalError(str(error)) from None
