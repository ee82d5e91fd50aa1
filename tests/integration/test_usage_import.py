"""Files of usage: every row gets a verdict, the same file twice is one, no file is too odd."""

import csv
import datetime as dt
import gzip
import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from models import database
from tasks import usage_chunk
from tests.integration import waiting
from tests.integration.command import Command, Ended
from worker.imports import column_names, counting
from worker.imports import text as import_text

CALLS = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16T19:17:04.9999999+01:00,110,27
"""
MAPPED = (
    "--tenant=acme",
    "--metric=context_tokens=ContextTokens",
    "--metric=generated_tokens=GeneratedTokens",
    "--at=TIMESTAMP",
)
REAL = "azure-llm-2023-code.csv"


def rows(statement: str) -> list[Any]:
    with database.transaction() as session:
        return list(session.execute(text(statement)).all())


def stored() -> list[Any]:
    return rows(
        "SELECT tenant_id, metric, idempotency_key, amount, at, metadata FROM usage_events "
        "ORDER BY metric, at, idempotency_key"
    )


def totals() -> dict[str, Any]:
    found = rows("SELECT metric, sum(amount) AS total, count(*) AS n FROM usage_events GROUP BY 1")
    return {row.metric: (row.total, row.n) for row in found}


def write(folder: Path, content: str | bytes, name: str = "usage.csv") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def verdicts(ended: Ended) -> dict[str, int]:
    answer = json.loads(ended.out)
    names = ("accepted", "duplicate", "conflict", "rejected")
    return {name: answer[name] for name in names if answer[name]}


def reasons(ended: Ended) -> list[tuple[int, str | None, str]]:
    return [(one["line"], one["field"], one["reason"]) for one in json.loads(ended.out)["reasons"]]


def test_a_file_is_stored_once_however_often_it_is_imported(
    billing: Command, tmp_path: Path
) -> None:
    name = write(tmp_path, CALLS)

    first = billing("usage", "import", name, *MAPPED)
    before = stored()
    again = billing("usage", "import", name, *MAPPED)

    assert (first.status, again.status) == (0, 0)
    assert "4 rows, 8 events" in first.out
    assert "accepted 8  duplicate 0  conflict 0  rejected 0" in first.out
    assert "accepted 0  duplicate 8  conflict 0  rejected 0" in again.out
    assert stored() == before
    # Two calls that look the same are two.
    assert totals() == {"context_tokens": (12906, 4), "generated_tokens": (55, 4)}
    ats = sorted({row.at.isoformat() for row in before})
    assert ats == [
        "2023-11-16T18:17:03.979960+00:00",
        "2023-11-16T18:17:04.031960+00:00",
        "2023-11-16T18:17:04.999999+00:00",
    ]


def test_a_real_file_agrees_to_the_token(billing: Command, checkout: Path) -> None:
    places = [parent / "shared" / "data" / REAL for parent in checkout.parents]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        pytest.skip(f"shared/data/{REAL} is not beside the checkout")

    for verdict in ("accepted", "duplicate"):
        ended = billing("usage", "import", str(found), *MAPPED, "--json")
        assert (ended.status, verdicts(ended)) == (0, {verdict: 2 * 8_819})

    assert totals() == {
        "context_tokens": (18_059_974, 8_819),
        "generated_tokens": (245_896, 8_819),
    }


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (CALLS, ()),
        (CALLS.replace("\n", "\r\n"), ()),
        (CALLS.replace("\n", "\r"), ()),
        ("\ufeff" + CALLS, ()),
        ("\ufeff" + CALLS, ("--encoding=utf8",)),
        (CALLS.encode("utf-16"), ()),
        (CALLS.encode("utf-16-be"), ("--encoding=utf-16-be",)),
        (CALLS.replace(",", ";"), ()),
        (CALLS.replace(",", "\t"), ()),
        (CALLS.replace(",", "|"), ()),
        (CALLS.replace(",", "\t"), ("--delimiter=tab",)),
        (CALLS.replace(",", "!"), ("--delimiter=!",)),
        (CALLS.replace(",", " , "), ()),
        (CALLS.replace("110,27", '"110","27"').replace("TIMESTAMP", '"TIMESTAMP"'), ()),
        (gzip.compress(CALLS.encode()), ()),
        (gzip.compress(CALLS.encode()[:50]) + gzip.compress(CALLS.encode()[50:]), ()),
        ("\n \n" + CALLS.replace("\n", "\n\n  \n"), ()),
        (CALLS.rstrip("\n"), ()),
    ],
)
def test_the_same_rows_are_read_however_they_are_written(
    billing: Command, tmp_path: Path, content: str | bytes, options: tuple[str, ...]
) -> None:
    name = write(tmp_path, content)

    from_file = billing("usage", "import", name, *MAPPED, *options, "--json")
    from_stdin = billing(
        "usage", "import", "-", *MAPPED, *options, "--json", stdin=Path(name).read_bytes()
    )

    assert (from_file.status, verdicts(from_file)) == (0, {"accepted": 8}), from_file
    assert (from_stdin.status, verdicts(from_stdin)) == (0, {"duplicate": 8})
    assert totals() == {"context_tokens": (12906, 4), "generated_tokens": (55, 4)}


def test_a_packed_and_moved_column_is_the_same_row(billing: Command, tmp_path: Path) -> None:
    table = list(csv.reader(io.StringIO(CALLS)))
    moved = "\n".join(";".join([row[2], row[0], row[1]]) for row in table)

    billing("usage", "import", write(tmp_path, CALLS), *MAPPED)
    packed = write(tmp_path, gzip.compress(moved.encode()), "moved.gz")
    ended = billing("usage", "import", packed, *MAPPED, "--json")

    assert verdicts(ended) == {"duplicate": 8}


BAD_ROWS: list[tuple[bytes, str | None, str]] = [
    (b"2023-11-16,,5", "amount", "finite decimal"),
    (b"2023-11-16,-1,5", "amount", "0 or more"),
    (b"2023-11-16,NaN,5", "amount", "finite decimal"),
    (b"2023-11-16,1180591620717411303424,5", "amount", "10^18"),
    (b'2023-11-16,"1,5",5', "amount", "finite decimal"),
    (b"soon,1,5", "at", "ISO 8601"),
    (b",1,5", "at", "ISO 8601"),
    (b"2999-01-01,1,5", "at", "later"),
    (b"2023-11-16,1", None, "has 2 cells, the header has 3"),
    (b"2023-11-16,1,5,6", None, "has 4 cells, the header has 3"),
    (b'2023-11-16,"1"x,5', None, "can not be read as CSV"),
    (b"2023-11-16,\xff,5", None, "is not UTF-8; name its encoding"),
    (b"2023-11-16,1," + b"5" * (import_text.LONGEST_LINE + 5), None, "is longer than"),
]


@pytest.mark.parametrize(("row", "field", "reason"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_bad_row_costs_only_itself_and_is_told_by_line(
    billing: Command, tmp_path: Path, row: bytes, field: str | None, reason: str
) -> None:
    good = b"2023-11-16,1,5"
    name = write(tmp_path, b"\n".join([b"TIMESTAMP,ContextTokens,Other", good, row, good, b""]))
    options = ("--tenant=acme", "--metric=c=ContextTokens", "--at=TIMESTAMP", "--as-of=2024-05-01")

    dry = billing("usage", "import", name, *options, "--json", "--dry-run")
    ended = billing("usage", "import", name, *options, "--json")

    assert (ended.status, verdicts(ended)) == (1, {"accepted": 2, "rejected": 1})
    ((said_line, said_field, said_reason),) = reasons(ended)
    assert (said_line, said_field) == (3, field)
    assert reason in said_reason
    assert (dry.status, verdicts(dry), reasons(dry)) == (1, verdicts(ended), reasons(ended))
    assert totals() == {"c": (2, 2)}
    # An event is kept until somebody mends it; a row that is none can be mended in the file only.
    assert len(rows("SELECT FROM rejected_messages")) == (1 if field else 0)


def test_a_quote_that_is_never_closed_is_one_bad_row_and_not_the_end_of_lines(
    billing: Command, tmp_path: Path
) -> None:
    name = write(tmp_path, 'a,b\n1,x\n2,"x\n3,x\n')
    broken = billing("usage", "import", name, "--tenant=acme", "--metric=m=a", "--json")
    write(tmp_path, "a,b\n1,x\n2,x\n3,x\n")
    mended = billing("usage", "import", name, "--tenant=acme", "--metric=m=a", "--json")

    assert verdicts(broken) == {"accepted": 1, "rejected": 1}
    assert reasons(broken)[0][0] == 3
    assert "up to line 4" in reasons(broken)[0][2]
    # Rows behind it have the keys they would have had.
    assert verdicts(mended) == {"accepted": 2, "duplicate": 1}


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        (b"", MAPPED, "is empty"),
        (b"\n\n", MAPPED, "is empty"),
        (b"a,b\n1,2\n", MAPPED, "no columns are named 'ContextTokens', 'GeneratedTokens',"),
        (CALLS.encode(), (*MAPPED, "--key=id"), "no column is named 'id'; there are 'TIMESTAMP'"),
        (CALLS.encode(), MAPPED[1:], "no column is named 'tenant_id'"),
        (CALLS.encode(), (*MAPPED, "--metadata=model"), "no column is named 'model'"),
        (CALLS.encode(), ("--tenant=acme",), "no columns are named 'metric', 'amount'"),
        (b"metric,amount,modell\n", ("--tenant=acme",), "'modell' is no field of an event"),
        (b"a,b,a\n1,2,3\n", ("--tenant=t", "--metric=m=a"), "two columns are named 'a'"),
        (b'"a\n', ("--tenant=t", "--metric=m=a"), "line 1: unexpected end of data"),
        (b"\xff\xfea\x00\x00", ("--tenant=t", "--metric=m=a"), "is not UTF-16"),
        (b"n\xe9\n1\n", ("--tenant=t", "--metric=m=a"), "line 1 is not UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00", MAPPED, "is no text; export it as CSV"),
        (gzip.compress(CALLS.encode() * 99)[:-20], MAPPED, "gzip data is damaged or cut off"),
        (b"\x1f\x8b nonsense", MAPPED, "gzip data is damaged or cut off"),
        (None, MAPPED, "No such file"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused_by_name(
    billing: Command,
    tmp_path: Path,
    content: bytes | None,
    options: tuple[str, ...],
    complaint: str,
) -> None:
    name = str(tmp_path / "none.csv") if content is None else write(tmp_path, content)

    ended = billing("usage", "import", name, *options)

    assert ended.status == 2
    assert ended.err.startswith(f"billing: {name}: ")
    assert complaint in ended.err
    assert "Traceback" not in ended.err


def test_nothing_is_stored_when_the_last_file_can_not_be_used(
    billing: Command, tmp_path: Path
) -> None:
    ended = billing("usage", "import", write(tmp_path, CALLS), str(tmp_path / "no.csv"), *MAPPED)

    assert (ended.status, stored()) == (2, [])


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("x.csv", "--metric=api"),
        ("x.csv", "--metric==x"),
        ("x.csv", "--metric=a=b", "--metric-column=c"),
        ("x.csv", "--metric-column=c"),
        ("x.csv", "--amount-column=c"),
        ("x.csv", "--at=c"),
        ("x.csv", "--delimiter=::", "--metric=a=b"),
        ("x.csv", "--encoding=klingon"),
        ("x.csv", "--encoding=base64"),
        ("x.csv", "--as-of=soon"),
    ],
)
def test_options_that_make_no_sense_are_refused(billing: Command, words: tuple[str, ...]) -> None:
    ended = billing("usage", "import", *words)

    assert ended.status == 2
    assert "Traceback" not in ended.err


def test_rows_can_be_whole_events(billing: Command, tmp_path: Path) -> None:
    whole = {
        "tenant_id": "acme",
        "metric": "api",
        "amount": "0.5",
        "at": "2024-05-01T00:00:00Z",
        "idempotency_key": "k1",
        "metadata": {"model": "atlas"},
    }
    lines = [
        json.dumps(whole),
        "",
        json.dumps({"metric": "api", "amount": 2}),
        json.dumps({"metric": "api", "amount": 2}),
    ]
    table = (
        "tenant_id,metric,amount,at,idempotency_key,metadata\n"
        'acme,api,0.50,2024-05-01T00:00:00Z,k1,"{""model"": ""atlas""}"\n'
        "acme,api,1,2024-05-01T00:00:00Z,k2,\n"
        "acme,api,1,2024-05-01T00:00:00Z,k3,atlas\n"
    )

    as_json = billing(
        "usage", "import", write(tmp_path, "\n".join(lines), "a.jsonl"), "--tenant=b", "--json"
    )
    as_csv = billing("usage", "import", write(tmp_path, table), "--json")

    assert verdicts(as_json) == {"accepted": 3}
    assert verdicts(as_csv) == {"accepted": 1, "duplicate": 1, "rejected": 1}
    assert reasons(as_csv) == [(4, "metadata", "must be a JSON object")]
    # What a row says of its tenant comes first; keys are made where there are none.
    assert [(row.tenant_id, row.amount) for row in stored()] == [
        ("acme", Decimal("0.5")),
        ("acme", 1),
        ("b", 2),
        ("b", 2),
    ]


def test_a_number_in_json_is_taken_as_it_is_written(billing: Command, tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "n": 123456789012345678.000000000001, "x": 0.1}',
        '{"id": 2, "n": 0.1}',
        '{"id": 3, "n": 1180591620717411303424}',
        '{"id": 4, "n": 1e3, "x": null}',
        '{"id": 5}',
        '{"id": 6, "n": NaN}',
        '{"id": 7, "n": 1, "x": "\\ud800"}',
        "[1]",
        "{",
        '{"id": 8, "n": 1.5, "x": ' + "[" * 990 + "]" * 990 + "}",
    ]
    name = write(tmp_path, "\n".join(lines), "n.jsonl")

    ended = billing(
        "usage", "import", name, "--tenant=t", "--metric=m=n", "--key=id", "--metadata=x", "--json"
    )

    assert verdicts(ended) == {"accepted": 3, "rejected": 7}
    assert [line for line, _, _ in reasons(ended)] == [3, 5, 6, 7, 8, 9, 10]
    assert {row.idempotency_key: (row.amount, row.metadata) for row in stored()} == {
        "1": (Decimal("123456789012345678.000000000001"), {"x": 0.1}),
        "2": (Decimal("0.1"), {}),
        "4": (1000, {"x": None}),
    }


def test_an_amount_that_is_no_number_is_kept_as_it_came_beside_one_that_is(
    billing: Command, tmp_path: Path
) -> None:
    name = write(tmp_path, '{"a": 0.5, "b": {"x": 0.5}}\n', "n.jsonl")

    ended = billing("usage", "import", name, "--tenant=t", "--metric=m=a", "--metric=n=b", "--json")

    assert verdicts(ended) == {"accepted": 1, "rejected": 1}
    assert rows("SELECT payload -> 'amount' FROM rejected_messages") == [({"x": 0.5},)]


def test_keys_metrics_and_metadata_come_from_the_columns_that_are_named(
    billing: Command, tmp_path: Path
) -> None:
    name = write(
        tmp_path,
        "what,n,day,id,model,tenant_id\n"
        "api,1,2024-05-01,a|b,x,t1\n"
        "storage,2,2024-05-01,a,y,t2\n"
        "storage,3,2024-05-02,a|b,y,t2\n"
        "storage,3,,,y,t2\n",
    )
    options = ("--metric-column=what", "--amount-column=n", "--key=day", "--key=id")

    ended = billing("usage", "import", name, *options, "--metadata=model", "--at=day", "--json")

    assert verdicts(ended) == {"accepted": 3, "rejected": 1}
    assert [(row.tenant_id, row.metric, row.idempotency_key, row.metadata) for row in stored()] == [
        ("t1", "api", r"2024-05-01|a\|b", {"model": "x"}),
        ("t2", "storage", "2024-05-01|a", {"model": "y"}),
        ("t2", "storage", r"2024-05-02|a\|b", {"model": "y"}),
    ]


def test_the_same_key_with_another_amount_is_a_conflict_with_its_line(
    billing: Command, tmp_path: Path
) -> None:
    name = write(tmp_path, "id,n\na,1\nb,1\na,2\na,1\n")
    options = ("--tenant=t", "--metric=m=n", "--key=id", "--as-of=2024-05-01T00:00:00")

    first = billing("usage", "import", name, *options)
    dry = billing("usage", "import", name, *options, "--dry-run", "--json")

    assert first.status == 1
    assert "accepted 2  duplicate 1  conflict 1  rejected 0" in first.out
    assert f"{name}:4: conflict: amount: idempotency_key 'a'" in first.out
    assert "billing rejected list" in first.out
    assert (dry.status, verdicts(dry)) == (1, {"duplicate": 3, "conflict": 1})


def test_empty_amounts_can_be_left_out_and_are_counted(billing: Command, tmp_path: Path) -> None:
    name = write(tmp_path, "a,b\n1,\n,2\n,\n")
    options = ("--tenant=t", "--metric=m=a", "--metric=n=b", "--as-of=2024-05-01")

    ended = billing("usage", "import", name, *options, "--skip-empty")
    strict = billing("usage", "import", name, *options, "--dry-run", "--json")

    assert (ended.status, totals()) == (0, {"m": (1, 1), "n": (2, 1)})
    assert "empty, left out 4" in ended.out
    assert verdicts(strict) == {"duplicate": 2, "rejected": 4}


def test_files_with_the_same_rows_are_told_apart_by_their_source(
    billing: Command, tmp_path: Path
) -> None:
    monday, tuesday = write(tmp_path, "n\n5\n", "mon.csv"), write(tmp_path, "n\n5\n", "tue.csv")
    options = ("--tenant=t", "--metric=m=n", "--as-of=2024-05-01", "--json")

    both = billing("usage", "import", monday, tuesday, *options)
    named = billing("usage", "import", tuesday, *options, "--source=tuesday")

    assert verdicts(both) == {"accepted": 1, "duplicate": 1}
    assert verdicts(named) == {"accepted": 1}


def test_a_dry_run_stores_nothing(billing: Command, tmp_path: Path) -> None:
    content = CALLS + "soon,1,1\n"

    ended = billing("usage", "import", write(tmp_path, content), *MAPPED, "--dry-run")

    assert ended.status == 1
    assert "accepted 8" in ended.out
    assert "nothing stored: a dry run" in ended.out
    for table in ("usage_events", "rejected_messages", "tenants", "usage_touched_days"):
        assert rows(f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 (names above)


def test_many_refusals_are_counted_and_the_first_are_told(billing: Command, tmp_path: Path) -> None:
    name = write(tmp_path, "n\n" + "x\n" * 30)

    ended = billing("usage", "import", name, "--tenant=t", "--metric=m=n")

    assert "rejected 30" in ended.out
    assert ended.out.count("rejected: amount") == counting.MOST_REASONS
    assert "… and 10 more" in ended.out


TENANTS = itertools.count()
"""A new one for each table: the database is emptied after all of them."""

CELL = st.one_of(
    st.sampled_from(
        ["", "1", "2.5", "-1", "1e3", "NaN", "1,5", " 7 ", '"', "\0", "é", "2024-05-01"]
    ),
    st.text(max_size=5),
    st.integers(0, 10**20).map(str),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.lists(st.tuples(CELL, CELL, CELL), max_size=8))
def test_whatever_cells_hold_each_row_gets_the_verdict_of_a_dry_run_and_twice_is_once(
    billing: Command, tmp_path: Path, table: list[tuple[str, str, str]]
) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([("a", "n", "at"), *table])
    content = written.getvalue().encode("utf-8", "surrogatepass").replace(b"\0", b"\\0")
    name = write(tmp_path, content)
    words = ("usage", "import", name, f"--tenant=t{next(TENANTS)}", "--metric=m=n", "--at=at")

    dry = billing(*words, "--dry-run", "--json")
    first = billing(*words, "--json")
    again = billing(*words, "--json")

    assert verdicts(dry) == verdicts(first)
    assert json.loads(first.out)["rows"] == sum(verdicts(first).values())
    expected = {"duplicate": verdicts(first).get("accepted", 0)} | {
        "rejected": verdicts(first).get("rejected", 0)
    }
    assert verdicts(again) == {name: count for name, count in expected.items() if count}


def test_columns_are_named_once_each() -> None:
    columns = column_names.Columns(metrics=[("a", "x"), ("b", "x")], at="x", key=("y",))

    assert columns.named == ["tenant_id", "x", "y"]


def test_a_chunk_whose_connection_is_cut_is_tried_again_and_stored_once(
    db: Engine, database_url: str
) -> None:
    looked = usage_chunk.look(
        [{"tenant_id": "t", "metric": "m", "amount": n, "idempotency_key": str(n)} for n in (1, 2)],
        now=dt.datetime(2024, 5, 1, tzinfo=dt.UTC),
    )
    url = database_url.replace("+psycopg", "")
    with ThreadPoolExecutor(1) as thread:
        with psycopg.connect(url) as connection:
            # Whoever stores waits here, after its tenants and before its events.
            connection.execute("LOCK TABLE usage_events IN EXCLUSIVE MODE")
            storing = thread.submit(usage_chunk.store, looked)
            waiting.until_somebody_waits()
            cut = connection.execute(
                f"SELECT pg_terminate_backend(pid) FROM ({waiting.WAITING}) AS waiting"  # noqa: S608
            ).fetchall()
        answer = storing.result(timeout=60)

    assert cut == [(True,)]
    assert (answer["accepted"], answer["duplicate"]) == (2, 0)
    assert totals() == {"m": (3, 2)}
    assert rows("SELECT tenant_ids FROM usage_touched_days") == [(["t"],)]
