"""Every command of `billing`, in the order of its help. Each is imported when it is run."""

import importlib
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand
from typer.main import get_group

from worker.importing import undisturbed


class Listed(NamedTuple):
    """A command or group: its name, what it does in a line, and where it is, as "module:name"."""

    name: str
    help: str
    place: str


def _group(name: str, does: str, place: str | None = None) -> Listed:
    return Listed(name, does, place or f"{name}:app")


def _command(name: str, does: str, module: str | None = None) -> Listed:
    return Listed(name, does, f"{module or name}:{name}")


PANELS: Final = {
    "Run it": (
        _command("up", "Run servers, workers, beat and Flower on this machine until Ctrl-C."),
        _command("demo", "Play a month of billing through real processes and check every figure."),
        _command("migrate", "Bring the database to the revision of this program.", "run"),
        _command("worker", "Run a worker.", "run"),
        _command("beat", "Run beat, the timetable's bell.", "run"),
        _command("flower", "Run Flower.", "run"),
    ),
    "Look after it": (
        _command(
            "doctor",
            "Look at settings, keys, database, broker, workers, backlogs and nightly checks.",
        ),
        _command(
            "status",
            "Show workers, queues, backlogs, deliveries, invoices, rates and findings on one "
            "screen.",
        ),
        _command(
            "metrics",
            "Serve how the system stands and what this host has counted, to Prometheus, until "
            "Ctrl-C.",
        ),
        _command("audit", "Prove that ledger, batches, holds and balances agree."),
        _command(
            "sizing",
            "Say what an installation needs for a load: processes, processors, log, disk, memory.",
        ),
        _group("rejected", "Messages that could not be taken."),
        _group("keys", "Master keys, which seal webhook secrets, and peppers of trials."),
        _command("call", "Send a task by name."),
        _group("schema", "JSON Schemas and SQL."),
    ),
    "What is sold": (
        _group("catalog", "Meters, taxes, products, offers, coupons and plans as one file."),
        _group("meter", "How metrics are counted."),
        _group("plan", "What is offered, and what it costs."),
        _group("price", "What is charged, by which model.", "plan:prices"),
        _group("product", "What credit is counted in."),
        _group("offer", "How products are sold."),
        _command(
            "quote",
            "Say what usage costs at a price, with the tiers behind each amount, as an invoice "
            "would.",
        ),
    ),
    "Who uses it": (
        _group("tenant", "Who is billed, and by which names."),
        _group("subscription", "Who is on which plan."),
        _group("usage", "What was used."),
        _group("entitlement", "What may be used, and what was used of it."),
        _group("trial", "Offers to try, once for each identity."),
        _group("referral", "Who brought whom, and what both get."),
    ),
    "Credit": (
        _group("wallet", "What a tenant has, and changing it by hand."),
        _group("batch", "Dated lots of credit."),
        _group("reservation", "Credit that is set aside."),
        _group("order", "What was bought, paid, and taken back."),
    ),
    "Invoices and webhooks": (
        _group("invoice", "Invoices and credit notes."),
        _group("sync", "Invoices at the provider, such as Stripe."),
        _group("endpoint", "Where webhooks go."),
        _group("delivery", "What went where, and sending it again."),
    ),
}
"""By what they are for."""


class Later(TyperCommand):
    """A command that stands in a list, and imports itself when it is run."""

    def __init__(self, listed: Listed, panel: str) -> None:
        """Know its name and what it does; import nothing."""
        super().__init__(listed.name, help=listed.help, rich_help_panel=panel)
        self._place = listed.place
        self._loaded: Any = None

    def load(self) -> Any:
        """Return the command or group itself."""
        if self._loaded is None:
            self._loaded = _built(str(self.name), self._place)
            show_flags_as_flags(self._loaded)
        return self._loaded

    def make_context(self, *given: Any, **extra: Any) -> Any:
        """Read its words: from here on it is the command itself that runs."""
        return self.load().make_context(*given, **extra)


def later() -> dict[str, Later]:
    """Return every command by its name."""
    return {one.name: Later(one, panel) for panel, those in PANELS.items() for one in those}


def _built(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    with undisturbed():
        found = getattr(importlib.import_module(f"worker.cli.{module}"), attribute)
    around = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    return get_group(around).commands[name]


def show_flags_as_flags(command: Any) -> None:
    """Let the help of a command, and of those below it, say that flags take no value.

    Typer's says "--json <bool>", as if one could write "--json yes".
    """
    for parameter in command.get_params(command.context_class(command)):
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    for below in getattr(command, "commands", {}).values():
        show_flags_as_flags(below)
