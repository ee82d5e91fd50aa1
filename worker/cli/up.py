"""The whole system for a developer, until Ctrl-C."""

import itertools
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.text import Text

from models import database
from worker import boot, processes, settings, stack, stopping

COLOURS = ("cyan", "magenta", "yellow", "green")
LONGEST_NAME = 9

EXAMPLE = (
    "billing call billing.record_usage '"
    '{"tenant_id": "acme", "metric": "api_calls", "amount": "3", "idempotency_key": "first"}'
    "'"
)


def up(
    port: Annotated[int, typer.Option(help="Flower's, on loopback.", min=1, max=65_535)] = 5555,
    flower: Annotated[bool, typer.Option(help="Run Flower.")] = True,
) -> None:
    """Run servers, workers, beat and Flower on this machine until Ctrl-C.

    PostgreSQL and Redis are embedded, unless DATABASE_URL and BROKER_URL name others.
    """
    chosen = settings.load()
    flower_port = port if flower else None
    if flower_port is not None:
        stack.require_free(flower_port)
    tell = _teller()
    # Embedded servers are stopped last, and nothing cuts that short.
    with stopping.until_told_to_stop() as over, stack.servers(chosen) as urls:
        environment = {**urls, **stack.development(chosen), **_quiet()}
        _migrate(chosen, urls, tell)
        _tell_start(chosen, environment, flower_port, tell)
        soft_shutdown = float(
            environment.get("BILLING_SOFT_SHUTDOWN_SECONDS", chosen.soft_shutdown_seconds)
        )
        with (
            tempfile.TemporaryDirectory(prefix="billing-up-") as ready,
            processes.running(say=_sayer(), tell=tell, cwd=settings.ROOT) as supervisor,
        ):
            programs = stack.programs_of(
                environment,
                ready=Path(ready),
                soft_shutdown=soft_shutdown,
                flower_port=flower_port,
                state=chosen.local_folder,
            )
            _run(supervisor, programs, over, tell)
            tell("stopping; what runs is finished or given back")
            _stop(supervisor, tell)
    tell("stopped")


def _run(
    supervisor: processes.Supervisor,
    programs: list[processes.Program],
    over: threading.Event,
    tell: Callable[[str], None],
) -> None:
    # Flower asks the workers what they are as soon as it runs: they come first.
    for stage in (
        [program for program in programs if program.name != stack.FLOWER],
        [program for program in programs if program.name == stack.FLOWER],
    ):
        for program in stage:
            supervisor.start(program)
        for program in stage:
            supervisor.wait_until_ready(program.name, unless=over)
    if not over.is_set():
        tell("ready")
    supervisor.tend_until(over)


def _stop(supervisor: processes.Supervisor, tell: Callable[[str], None]) -> None:
    for names in stack.STOPS:
        stopped = supervisor.stop(*names)
        if stopped:
            tell(f"{' and '.join(stopped)} ended")


def _migrate(chosen: settings.Settings, urls: dict[str, str], tell: Callable[[str], None]) -> None:
    boot.prepare(chosen.model_copy(update={"database_url": SecretStr(urls["DATABASE_URL"])}))
    before, after = stack.migrate()
    # Children that are forked or started from here on find no connection of ours.
    database.dispose()
    if before != after:
        tell(f"database migrated from {before or 'empty'} to {after}")


def _tell_start(
    chosen: settings.Settings,
    environment: dict[str, str],
    flower_port: int | None,
    tell: Callable[[str], None],
) -> None:
    given = chosen.model_fields_set
    for name, field in (("PostgreSQL", "database_url"), ("Redis", "broker_url")):
        where = "yours" if field in given else f"embedded, data in {chosen.local_folder}"
        tell(f"{name}: {where}")
    if "BILLING_MASTER_KEYS" in environment:
        tell(f"master keys: for development, in {chosen.local_folder / settings.MASTER_KEYS_FILE}")
    if "BILLING_WEBHOOK_PRIVATE_HOSTS" in environment:
        tell("webhooks: endpoints on this machine are allowed, over plain http too")
    tell("processes: worker (usage, billing), webhooks, beat; one that dies is started again")
    if flower_port is not None:
        file = chosen.local_folder / settings.FLOWER_BASIC_AUTH_FILE
        password = file if chosen.flower_basic_auth is None else "FLOWER_BASIC_AUTH"
        tell(f"Flower: http://{stack.LOOPBACK}:{flower_port}, user and password: {password}")
    tell(f"send an event from another terminal: {EXAMPLE}")
    tell("stop with Ctrl-C")


def _quiet() -> dict[str, str]:
    quiet = {}
    if os.geteuid() == 0:
        # Celery's warning is right for production; here it would be the first thing one reads.
        quiet["PYTHONWARNINGS"] = "ignore:You're running the worker with superuser"
    if sys.stdout.isatty() and "BILLING_LOG" not in os.environ:
        quiet["BILLING_LOG"] = "text"
    return quiet


def _teller() -> Callable[[str], None]:
    say = _sayer()
    return lambda message: say("billing", message)


def _sayer() -> processes.Say:
    return _say_in_colour(Console(soft_wrap=True)) if sys.stdout.isatty() else _say_as_json


def _say_in_colour(console: Console) -> processes.Say:
    colours = itertools.cycle(COLOURS)
    known: dict[str, str] = {"billing": "bold"}

    def say(name: str, line: str) -> None:
        if not line:
            return
        colour = known.get(name) or known.setdefault(name, next(colours))
        prefix = (f"{name:<{LONGEST_NAME}}│ ", colour)
        console.print(Text.assemble(prefix, Text.from_ansi(line)))

    return say


def _say_as_json(name: str, line: str) -> None:
    """One JSON object a line: a child's own with its name in front, anything else wrapped."""
    if not line:
        return
    process = json.dumps(name)
    if line.startswith('{"') and line.endswith("}"):
        shown = f'{{"process": {process}, {line[1:]}'
    else:
        shown = json.dumps({"process": name, "event": line}, ensure_ascii=False)
    sys.stdout.write(f"{shown}\n")
    sys.stdout.flush()
