"""`billing catalog`, and CSV of products and offers, as an operator sees them."""

import json
from pathlib import Path

import pytest

from tasks.catalog_import import export_catalog
from tests.integration.billing_world import query
from tests.integration.command import Command
from worker.demo import prices

SAMPLE = str(prices.CATALOG)

MISSING_NAME = "is missing; it must be a text of 1 to 200 characters"


def test_what_is_written_is_read_again_as_yaml_and_as_json(
    billing: Command, tmp_path: Path
) -> None:
    made = billing("catalog", "import", SAMPLE)
    assert made.status == 0
    assert made.out.splitlines()[-1] == "20 new, 0 changed, 0 as they were"

    for name in ("out.yaml", "out.json"):
        file = str(tmp_path / name)
        assert billing("catalog", "export", file).out == f"wrote 20 entries to {file}\n"
        again = billing("catalog", "diff", "--exit-code", file)
        assert (again.status, again.out) == (
            0,
            "0 new, 0 changed, 20 as they were; nothing was changed yet\n",
        )
    piped = billing("catalog", "export", "--format", "json").out
    assert json.loads(piped) == export_catalog()
    assert billing("catalog", "import", "-", stdin=piped.encode()).status == 0


def test_a_difference_is_told_by_field(billing: Command, tmp_path: Path) -> None:
    billing("catalog", "import", SAMPLE)
    file = tmp_path / "changed.yaml"
    text = Path(SAMPLE).read_text("utf-8")
    file.write_text(text.replace("unit_amount: 49", "unit_amount: 59"), "utf-8")

    ended = billing("catalog", "diff", "--exit-code", str(file))

    assert ended.status == 1
    assert ended.out.splitlines() == [
        "~ plan llm-pro",
        '    prices.base USD.unit_amount: "49" → "59"',
        "0 new, 1 changed, 19 as they were; nothing was changed yet",
    ]
    assert billing("catalog", "import", "--dry-run", str(file)).out == ended.out
    assert billing("catalog", "import", str(file)).out.endswith("19 as they were\n")
    assert billing("catalog", "diff", "--exit-code", str(file)).status == 0


def test_faults_are_told_in_words_and_nothing_is_changed(billing: Command, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("products:\n- {product_key: A, name: A}\n- {product_key: B}\n", "utf-8")

    ended = billing("catalog", "import", str(file))

    assert ended.status == 1
    assert ended.out.splitlines() == [
        "+ product A",
        '    name: "A"',
        '    product_key: "A"',
        f"! product B (entry 2): name: {MISSING_NAME} [message.invalid]",
        "1 fault: nothing was changed (1 new, 0 changed, 0 as they were)",
    ]
    assert query("SELECT count(*) FROM products") == [(0,)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("products: [", "expected the node content"),
        ("- a\n", "must be a mapping of sections"),
        ("products:\n- {name: a, name: b}\n", "'name' is there twice"),
        ("products: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(
    billing: Command, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text, "utf-8")

    ended = billing("catalog", "diff", str(file))

    assert ended.status == 2
    assert said in ended.err


def test_an_unknown_section_is_refused(billing: Command, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("produtcs: []\n", "utf-8")

    ended = billing("catalog", "diff", str(file))

    assert ended.status == 1
    assert "catalog.produtcs" in ended.err


def test_products_and_offers_go_out_and_in_as_csv(billing: Command, tmp_path: Path) -> None:
    billing("catalog", "import", SAMPLE)
    for noun in ("product", "offer"):
        file = tmp_path / f"{noun}s.csv"
        assert billing(noun, "export", str(file)).status == 0
        text = file.read_text("utf-8")
        assert billing(noun, "export").out == billing(noun, "export", "-").out == text
        ended = billing(noun, "import", str(file))
        assert ended.out.startswith("0 new, 0 changed")
        file.write_text(text.replace("1,000 calls", "A thousand calls"), "utf-8")
        changed = "1 changed" if noun == "offer" else "0 changed"
        assert changed in billing(noun, "import", str(file)).out
    assert (tmp_path / "offers.csv").read_text("utf-8").splitlines()[:2] == [
        "sku,name,price,currency,active,metadata,product_key,quantity,period,value",
        'CALLS-10K,"10,000 calls and a month of the studio",79.00,USD,,,CALLS,10000,years,1',
    ]


def test_faults_of_a_csv_file_are_told_by_line_and_nothing_is_written(
    billing: Command, tmp_path: Path
) -> None:
    file = tmp_path / "offers.csv"
    file.write_text(
        "sku,name,price,currency,active,metadata,product_key,quantity,period,value\n"
        "A,One,1,USD,,,CALLS,5,,\n"
        "A,One,1,USD,,,CALLS,6,days,3\n"
        "B,Two,1.999,USD,,,CALLS,5,,\n"
        "C,Three,1,XXL,,,CALLS,5,,\n",
        "utf-8",
    )
    billing("product", "set", "CALLS")

    ended = billing("offer", "import", str(file))

    assert ended.status == 1
    assert ended.err.splitlines()[0].startswith("line 4: offer B: price")
    assert ended.err.splitlines()[1].startswith("line 5: offer C: currency")
    assert query("SELECT count(*) FROM offers") == [(0,)]
    told = json.loads(billing("offer", "import", str(file), "--json").out)
    assert [one["line"] for one in told["refused"]] == [4, 5]


def test_lines_that_can_not_be_read_are_told_before_anything_is_tried(
    billing: Command, tmp_path: Path
) -> None:
    file = tmp_path / "products.csv"
    header = "product_key,name,type,is_currency,burn_policy,active,metadata\n"
    file.write_text(header + "A,One\nB,Two,,maybe,,,\nC,Three,,,,,[1]\n", "utf-8")

    ended = billing("product", "import", str(file))

    assert (ended.status, ended.err.splitlines()) == (
        1,
        [
            "line 2: has 2 cells and needs 7",
            "line 3: is_currency 'maybe' must be true or false",
            "line 4: metadata '[1]' must be a JSON object",
        ],
    )
    file.write_text("key,name\n", "utf-8")
    assert "line 1: the header must be product_key," in billing("product", "import", str(file)).err
