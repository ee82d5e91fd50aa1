"""Every command of `billing`: what it says of itself, and what it says to words that are wrong."""

import datetime as dt
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest

import worker.cli
from models import database

NONSENSE = "n0nsense"
PICKY = (int, float, UUID, Enum, dt.date)
"""Types whose values can be wrong as such."""

FORMS = {"INSTANT", "DAY", "AMOUNT", "NUMBER", "ID", "YYYY-MM", "JSON"}
"""What a value is called that can be wrong as such."""

RIGHT = ("must be", "should be", "is not one of", "such as")
"""How a refusal says what would be right."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; what it said, without the frame around it."""

    status: Any
    said: str


@dataclass(frozen=True, slots=True)
class Known:
    """A command by the words that name it."""

    words: tuple[str, ...]
    command: Any

    @property
    def is_group(self) -> bool:
        return hasattr(self.command, "commands")


def _is(one: Any, *kinds: type) -> bool:
    """Whether a parameter takes values of such a type, or several."""
    kind, *_ = get_args(one.type_descriptor.annotation) or (one.type_descriptor.annotation,)
    return isinstance(kind, type) and issubclass(kind, kinds) and kind is not bool


def _is_picky(one: Any) -> bool:
    """Whether a value can be of the wrong kind: it has a type, or what reads it."""
    return one.type_descriptor.parameter_info.parser is not None or _is(one, *PICKY)


def _fitting(one: Any) -> str:
    """A value that a parameter takes."""
    if _is(one, Enum):
        return str(next(iter(one.type_descriptor.annotation)).value)
    return "01a1ff79-de62-7624-8ca8-f7553888574e" if _is(one, UUID) else "1"


ROOT = worker.cli.whole()


def known(command: Any = ROOT, words: tuple[str, ...] = ()) -> Iterator[Known]:
    """Every command and group."""
    yield Known(words, command)
    for name, child in getattr(command, "commands", {}).items():
        yield from known(child, (*words, name))


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No server and no key: who asks wrongly is told so before anything is looked for."""
    for name in tuple(os.environ):
        if name.startswith("BILLING_") or name in {"DATABASE_URL", "BROKER_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("BILLING_LOCAL_FOLDER", str(tmp_path / "nothing"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    monkeypatch.setattr(worker.cli, "app", lambda: ROOT(prog_name="billing"))
    yield
    database.dispose()


class Asked:
    """Runs `billing` with words, as `worker.cli.main` does, on the commands built once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str) -> Ended:
        """Run it; whatever else than an exit it ends with is a traceback for a user."""
        self._monkeypatch.setattr("sys.argv", ["billing", *words])
        with pytest.raises(SystemExit) as ended:
            worker.cli.main()
        written = self._capsys.readouterr()
        text = (written.err + written.out).replace("│", " ")
        return Ended(ended.value.code, " ".join(text.split()))


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(monkeypatch, capsys)


def test_every_command_and_group_says_what_it_is_for() -> None:
    silent = [
        " ".join(("billing", *one.words)) for one in known() if len(one.command.help or "") < 10
    ]

    assert silent == []


def test_the_first_line_of_each_help_is_a_sentence() -> None:
    first = {one.words: (one.command.help or "").split("\n\n")[0] for one in known()}

    assert [words for words, line in first.items() if not line.rstrip().endswith(".")] == []


def test_help_says_what_every_argument_and_option_is(ask: Asked) -> None:
    for one in known():
        said = ask(*one.words, "--help").said
        for param in one.command.params:
            told = " ".join((param.help or "").split())
            assert len(told) > 3, (one.words, param.name)
            assert told in said, (one.words, param.name)


def test_an_option_that_does_not_exist_is_named(ask: Asked) -> None:
    ends = {one.words: ask(*one.words, "--no-such-option") for one in known()}

    assert [words for words, ended in ends.items() if ended.status != 2] == []
    silent = [words for words, ended in ends.items() if "--no-such-option" not in ended.said]
    # Its amount may be below zero, so what begins with a dash is taken for it; it is refused so.
    assert silent == [("wallet", "adjust")]


def test_a_word_that_is_no_command_of_a_group_is_named(ask: Asked) -> None:
    groups = [one for one in known() if one.is_group]

    ends = {one.words: ask(*one.words, NONSENSE) for one in groups}

    assert len(groups) > 20
    assert [words for words, ended in ends.items() if ended.status != 2] == []
    assert [words for words, ended in ends.items() if NONSENSE not in ended.said] == []


def test_what_must_be_given_and_is_not_is_named(ask: Asked) -> None:
    faults = []
    for one in known():
        needed = [param for param in one.command.params if param.required]
        if one.is_group or not needed:
            continue
        ended = ask(*one.words)
        names = [needed[0].opts[0].lower(), (needed[0].metavar or needed[0].name or "").lower()]
        said = ended.said.lower()
        if ended.status != 2 or not any(name in said for name in names):
            faults.append((one.words, ended))

    assert faults == []


def test_a_value_of_the_wrong_kind_is_refused_by_its_field_and_said(ask: Asked) -> None:
    tried, faults = 0, []
    for one in known():
        for param in one.command.params:
            if one.is_group or not _is_picky(param):
                continue
            tried += 1
            ended = ask(*one.words, *words_with_nonsense(one, param))
            named = (param.opts[0], param.metavar or param.name, param.name)
            # JSON may be long, and private: of it only the fault is said.
            is_said = NONSENSE in ended.said or param.metavar == "JSON"
            if (
                ended.status != 2
                or "Invalid value" not in ended.said
                or not any(name.lower() in ended.said.lower() for name in named)
                or not is_said
                or not any(right in ended.said for right in RIGHT)
            ):
                faults.append((one.words, param.opts[0], ended))

    assert tried > 150
    assert faults == []


def test_whatever_has_a_form_is_read_before_anything_is_done() -> None:
    lax = [
        (one.words, param.opts[0])
        for one in known()
        for param in one.command.params
        if not one.is_group and param.metavar in FORMS and not _is_picky(param)
    ]

    # It has a look at the object itself, which may stand in a file or come by standard input.
    assert lax == [(("call",), "message")]


def test_a_number_out_of_bounds_is_refused_with_the_bound(ask: Asked) -> None:
    ended = ask("order", "list", "--limit", "501")

    assert ended.status == 2
    assert "'--limit': '501': must be less than or equal to 500" in ended.said


def test_one_of_several_values_is_refused_alone(ask: Asked) -> None:
    ended = ask("rejected", "replay", "1", "x7")

    assert ended.status == 2
    assert "'x7': must be a valid integer" in ended.said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("invoice", "void", "INV-1", "--reason", "r", "--as-of", "2026-13-01"), "'2026-13-01'"),
        (("wallet", "consume", "acme", "calls", "0"), "'0' must be a number above 0"),
        (("wallet", "adjust", "acme", "calls", "0", "--reason", "r"), "'0' must be a number"),
        (("wallet", "consume", "acme", "calls", "NaN"), "'NaN' must be a number"),
        (("wallet", "ledger", "acme", "--from", "1066-10-14"), "'1066-10-14' must be a day"),
        (("tenant", "link", "acme", "google"), "'google' must be PROVIDER:ID"),
        (("tenant", "identify", "a:b", "--timezone", "Mars"), "'Mars' must be an IANA time zone"),
        (("tenant", "identify", "a:b", "--currency", "XXXX"), "'XXXX' must be a currency"),
        (("endpoint", "create", "https://a.example", "--header", "x"), "'x' must be a name, a"),
        (("endpoint", "create", "https://a.example", "--metadata", "[]"), "must be a JSON object"),
        (("invoice", "credit", "INV-1", "--reason", "r", "--line", "2=x"), "'x' must be a number"),
        (("delivery", "replay", "1", "--dry-run"), "DELIVERY is one"),
        (("catalog", "import", "/no/such/file"), "/no/such/file: No such file"),
        (("offer", "import", "/no/such/file"), "/no/such/file: No such file"),
        (("usage", "import", "/no/such/file"), "/no/such/file: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_told_before_any_server_is_looked_for(
    ask: Asked, words: tuple[str, ...], complaint: str
) -> None:
    ended = ask(*words)

    assert ended.status == 2
    assert complaint in ended.said


def words_with_nonsense(one: Known, wrong: Any) -> list[str]:
    """The required words of a command, with nonsense for one parameter."""
    found: list[str] = []
    for param in one.command.params:
        if param is wrong:
            value = NONSENSE
        elif param.required:
            value = _fitting(param)
        else:
            continue
        found += [param.opts[0], value] if param.param_type_name == "option" else [value]
    return found
