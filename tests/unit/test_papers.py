"""Pages: every text is on them, none of it is markup, and long ones break where they should."""

import datetime as dt
import re
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pymupdf_fonts
import pytest

from models.rules import billing
from models.rules.period import Period
from models.rules.states import InvoiceState
from models.rules.waterfall import Bill, Discount, Tax
from models.store.drafting import Drafted
from models.store.invoice import Header
from tasks.papers import accounts, html, paper, pdf, steps
from tasks.papers.fonts import NoLetter
from tasks.papers.invoice_paper import Told, invoice_paper
from tasks.papers.paper import Paper, Party, Row, Sum
from tests import pdf_text

MADE_AT = dt.datetime(2026, 2, 2, tzinfo=dt.UTC)

PAPER = Paper(
    title="Invoice",
    number="INV-000001",
    stamp="Paid",
    sender=Party("Northwind Metering GmbH", ("Lindenstraße 12", "10969 Berlin")),
    receiver=Party("Società Ωmega & Жук", ("Via Roma 1",)),
    facts=(("Customer", "acme"), ("Due", "16 February 2026")),
    currency="EUR",
    rows=(
        Row("API calls", "18,250", "0.002", "36.50"),
        Row("Tokens", "1,500", "", "7.00", ("first 1,000: 1,000 at 0.004", "next 500 at 0.006")),
    ),
    sums=(Sum("Subtotal", "43.50"), Sum("Total", "43.50 EUR", strong=True)),
    remarks=("Reverse charge", "IBAN DE02 1203 0000"),
    footer=("Amtsgericht Berlin",),
)


def texts(of: Paper) -> list[str]:
    return [
        of.title,
        of.number,
        of.sender.name,
        *of.sender.lines,
        of.receiver.name,
        *of.receiver.lines,
        *(text for fact in of.facts for text in fact),
        *(text for row in of.rows for text in (row.description, row.amount, *row.notes)),
        *(text for one in of.sums for text in (one.label, one.amount)),
        *of.remarks,
        *of.footer,
    ]


class Reader(HTMLParser):
    """The texts and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 (its caller gives it)
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_every_text_is_on_the_page() -> None:
    page = Reader(html.render(PAPER))

    assert all(text in page.text for text in [*texts(PAPER), PAPER.stamp])


def test_every_text_is_on_the_pdf() -> None:
    (page,) = pdf_text.pages(pdf.render(PAPER, made_at=MADE_AT))

    for text in [*texts(PAPER), PAPER.stamp.upper()]:
        assert squeezed(text) in squeezed(page), text


def test_markup_in_a_text_is_text() -> None:
    evil = "<script>alert('1')</script>\"&amp;{{ 7*7 }}"
    row = Row(evil, evil, evil, evil, (evil,))
    party = Party(evil, (evil,))
    spoiled = replace(
        PAPER,
        title=evil,
        number=evil,
        stamp=evil,
        sender=party,
        receiver=party,
        facts=((evil, evil),),
        currency=evil,
        rows=(row,),
        sums=(Sum(evil, evil),),
        remarks=(evil,),
        footer=(evil,),
    )

    page = html.render(spoiled)

    assert "<script" not in page
    assert "49" not in page.split("</style>")[1]
    assert set(Reader(page).tags) <= set(Reader(html.render(PAPER)).tags)
    assert Reader(page).text.count(evil) >= 16


def test_a_page_needs_nothing_from_elsewhere() -> None:
    page = html.render(PAPER)

    assert not re.search(r"https?:|<script|<link|<img|url\(|@import", page)


def test_the_same_page_is_the_same_pdf() -> None:
    assert pdf.render(PAPER, made_at=MADE_AT) == pdf.render(PAPER, made_at=MADE_AT)


def test_a_long_invoice_repeats_its_heading_and_keeps_its_sums_together() -> None:
    many = replace(PAPER, rows=PAPER.rows * 60)

    found = pdf_text.pages(pdf.render(many, made_at=MADE_AT))

    assert len(found) >= 4
    assert all("Description" in page for page in found[:-1])
    assert sum(page.count("API calls") for page in found) == 60
    assert "Subtotal" in found[-1]
    assert "43.50 EUR" in found[-1]


def test_more_steps_than_fit_a_page_go_on_on_the_next() -> None:
    notes = tuple(f"step {number} at 0.5" for number in range(300))
    long = replace(PAPER, rows=(Row("Tokens", "1", "", "1.00", notes),))

    found = pdf_text.pages(pdf.render(long, made_at=MADE_AT))

    assert len(found) >= 4
    assert all(squeezed(note) in squeezed("".join(found)) for note in notes)


@pytest.mark.parametrize(
    "name", ["Ćwikła Sp. z o.o.", "Ελλάς", "מטר", "საქართველო", "บริษัท", "₹ ₺ €"]
)
def test_names_of_many_scripts_can_be_written(name: str) -> None:
    found = pdf_text.pages(pdf.render(replace(PAPER, receiver=Party(name)), made_at=MADE_AT))

    assert all(letter in found[0] for letter in name if letter.strip())


@pytest.mark.parametrize(
    ("name", "glyphs"),
    [
        # A conjunct is one glyph, a short i stands before the letter that it follows.
        ("क्षत्रिय", ["क्ष", "त्रि", "य"]),
        ("हिन्दी", ["हि", "न्दी"]),
        # From the right, as it is seen; a lam and an alef are one glyph.
        ("سلام", ["م", "لا", "س"]),
        ("חברה", ["ה", "ר", "ב", "ח"]),
        ("ที่", ["ที่"]),
    ],
)
def test_letters_take_the_shapes_and_places_that_their_font_gives_them(
    name: str, glyphs: list[str]
) -> None:
    (page,) = pdf_text.pages(pdf.render(replace(PAPER, receiver=Party(name)), made_at=MADE_AT))

    assert "".join(glyphs) in squeezed(page)


def glyphs_of(word: str) -> list[tuple[int, str]]:
    """The glyphs that a word is written with: the code of each, and the letters it stands for."""
    (page,) = pdf_text.glyphs(pdf.render(replace(PAPER, remarks=(word,)), made_at=MADE_AT))
    return [glyph for line in page for glyph in line if set(glyph[1]) & set(word)]


def test_what_is_joined_is_one_glyph_and_not_its_letters() -> None:
    assert [letters for _, letters in glyphs_of("क्ष")] == ["क्ष"]
    assert [letters for _, letters in glyphs_of("لا")] == ["لا"]


def test_a_letter_has_another_shape_where_it_is_joined() -> None:
    shapes = {code for code, letters in glyphs_of("ت بت تب") if letters == "ت"}

    assert len(shapes) == 3


def test_numbers_and_latin_words_keep_their_order_among_letters_from_the_right() -> None:
    named = replace(PAPER, remarks=("חברה 12 Acme Ltd",))
    (page,) = pdf_text.pages(pdf.render(named, made_at=MADE_AT))

    assert "Acme" in squeezed(page)
    assert "12" in squeezed(page)
    assert squeezed(page).index("Acme") < squeezed(page).index("הרבח")


def test_long_texts_in_such_scripts_are_broken_between_words_and_clusters() -> None:
    word = "प्रौद्योगिकी"
    long = replace(PAPER, rows=(Row(word * 14, "1", "", "1.00"), Row(f"{word} " * 14, "1", "", "")))

    (page,) = pdf_text.pages(pdf.render(long, made_at=MADE_AT))

    assert squeezed(page).count(word) == 28


def test_long_words_and_labels_are_broken_inside_their_column() -> None:
    word = "Donaudampfschifffahrtsgesellschaft" * 6
    label = "a coupon whose name goes on and on " * 5
    long = replace(
        PAPER,
        receiver=Party(word, (word,)),
        facts=((word, word),),
        rows=(Row(word, "1", "", "1.00", (word,)),),
        sums=(Sum(label, "-1.00"),),
        remarks=(word,),
    )

    (page,) = pdf_text.pages(pdf.render(long, made_at=MADE_AT))

    assert squeezed(page).count(word) == 7
    assert squeezed(label) in squeezed(page)
    assert max(len(line) for line in page.split("\n")) < 120


def test_a_text_that_looks_like_a_place_for_the_number_of_pages_stays_as_it_is() -> None:
    (page,) = pdf_text.pages(pdf.render(replace(PAPER, receiver=Party("{nb}")), made_at=MADE_AT))

    assert "{nb}" in page
    assert "1 / 1" in page


def test_every_page_says_which_of_how_many_it_is() -> None:
    found = pdf_text.pages(pdf.render(replace(PAPER, rows=PAPER.rows * 60), made_at=MADE_AT))

    for number, page in enumerate(found, start=1):
        assert f"{number} / {len(found)}" in page
        assert "Invoice INV-000001" in page


def test_a_row_is_not_torn_apart_by_the_end_of_a_page() -> None:
    row = Row("Tokens", "1", "", "1.00", ("first step", "second step", "last step"))

    found = pdf_text.pages(pdf.render(replace(PAPER, rows=(row,) * 40), made_at=MADE_AT))

    assert len(found) > 2
    for page in found:
        assert page.count("Tokens") == page.count("first step") == page.count("last step")


@pytest.mark.parametrize("name", ["株式会社", "தமிழ்", "ខ្មែរ", "မြန်မာ"])
def test_a_letter_that_no_font_has_is_refused_by_name_and_html_has_it(name: str) -> None:
    assert name in html.render(replace(PAPER, receiver=Party(name)))
    with pytest.raises(NoLetter, match="BILLING_PAPER_FONT"):
        pdf.render(replace(PAPER, receiver=Party(name)), made_at=MADE_AT)


def test_the_operators_own_font_is_used_for_what_ours_lack(tmp_path: Path) -> None:
    own = tmp_path / "own.ttf"
    own.write_bytes(pymupdf_fonts.myfont("music"))
    clef = "\N{MUSICAL SYMBOL G CLEF}"
    named = replace(PAPER, receiver=Party(f"{clef} Records"))

    with pytest.raises(NoLetter):
        pdf.render(named, made_at=MADE_AT)
    assert clef in pdf_text.pages(pdf.render(named, made_at=MADE_AT, font=own))[0]


@pytest.mark.parametrize(
    ("minor", "currency", "written"),
    [
        (123_450, "EUR", "1,234.50"),
        (-5, "EUR", "-0.05"),
        (1_235, "JPY", "1,235"),
        (1_234_567, "BHD", "1,234.567"),
    ],
)
def test_money_has_the_decimals_of_its_currency(minor: int, currency: str, written: str) -> None:
    assert paper.amount(minor, currency) == written


@pytest.mark.parametrize(
    ("value", "currency", "written"),
    [
        ("49", "USD", "49.00"),
        ("0.0000025", "USD", "0.0000025"),
        ("1500", "JPY", "1,500"),
        ("0.5", "JPY", "0.5"),
    ],
)
def test_a_unit_price_shows_all_of_its_decimals(value: str, currency: str, written: str) -> None:
    assert paper.unit_price(Decimal(value), currency) == written


@pytest.mark.parametrize(
    ("step", "currency", "written"),
    [
        ({"kind": "units", "quantity": "100", "unit_amount": "0.1"}, "EUR", "100 x 0.10"),
        ({"kind": "units", "quantity": "100", "unit_amount": "0.0125"}, "EUR", "100 x 0.0125"),
        ({"kind": "units", "quantity": "100", "unit_amount": "5"}, "JPY", "100 x 5"),
        ({"kind": "units", "quantity": "100", "unit_amount": "0.5"}, "JPY", "100 x 0.5"),
        ({"kind": "units", "quantity": "2", "unit_amount": "0.1"}, "BHD", "2 x 0.100"),
        (
            {"kind": "units", "quantity": "5000", "unit_amount": "1200.5", "per": "1000"},
            "EUR",
            "5,000 x 1,200.50 for each 1,000",
        ),
        ({"kind": "package", "quantity": "3", "unit_amount": "1", "per": "10"}, "EUR", "3 x 1.00"),
        ({"kind": "flat_fee", "quantity": "1", "unit_amount": "7"}, "EUR", "7.00"),
        ({"kind": "flat_fee", "quantity": "0.5", "unit_amount": "7"}, "EUR", "0.5 x 7.00"),
        ({"kind": "event_fee", "quantity": "12", "unit_amount": "0.3"}, "USD", "12 x 0.30"),
        # A rate and a factor are no amounts of money; what the events say they cost is one.
        ({"kind": "percent", "quantity": "1000", "unit_amount": "2.9"}, "EUR", "2.9 % of 1,000"),
        ({"kind": "charged", "quantity": "12.5", "unit_amount": "1.2"}, "EUR", "12.50 x 1.2"),
        ({"kind": "free", "quantity": "100"}, "EUR", "100"),
        ({"kind": "minimum", "quantity": "1"}, "EUR", ""),
    ],
)
def test_a_step_shows_a_unit_price_with_the_decimals_of_its_currency_at_least(
    step: dict[str, str], currency: str, written: str
) -> None:
    assert steps.in_words(step, currency)[1] == written


def invoice(*, description: str = "API calls", state: str = "finalized") -> Drafted:
    """30.00 less 3.00, with 20 % on top and 10 % inside."""
    covers = Period(
        dt.datetime(2025, 12, 31, 23, tzinfo=dt.UTC), dt.datetime(2026, 1, 31, 23, tzinfo=dt.UTC)
    )
    lines = [
        billing.Line(
            kind="usage",
            subscription_id=UUID(int=1),
            price_id=UUID(int=2),
            metric="calls",
            description=description,
            quantity=Decimal(1500),
            unit_amount=None,
            amount_minor=amount,
            period=covers,
            details={
                "plan_key": "pro",
                "price_key": "calls",
                "steps": [
                    {
                        "kind": "units",
                        "of": "model = atlas",
                        "up_to": "1000",
                        "quantity": "1000",
                        "unit_amount": "0.004",
                        "amount": "4",
                        "amount_minor": 400,
                    },
                    {
                        "kind": "flat_fee",
                        "above": "1000",
                        "quantity": "1",
                        "unit_amount": "6",
                        "amount": "6",
                        "amount_minor": 600,
                    },
                ],
            },
        )
        for amount in (1_000, 2_000)
    ]
    bill = Bill(
        amounts_minor=(1_000, 2_000),
        discounts=(Discount(UUID(int=3), "TEN", "Ten", Decimal(10), (100, 200)),),
        taxes=(
            Tax("in", "Inside", Decimal(10), True, 2_455, (82, 163)),
            Tax("on", "On top", Decimal(20), False, 2_455, (164, 327)),
        ),
    )
    header = Header(
        id=UUID(int=4),
        tenant_id="acme",
        currency="EUR",
        timezone="Europe/Berlin",
        period=covers,
        state=InvoiceState(state),
        total_minor=bill.total_minor,
        version=2,
        number="INV-000007",
        finalized_at=dt.datetime(2026, 2, 1, 23, 30, tzinfo=dt.UTC),
        due_at=dt.datetime(2026, 2, 15, 23, 30, tzinfo=dt.UTC),
        closing_note="wrong",
    )
    return Drafted(header, lines, bill)


def test_an_invoice_is_read_in_the_local_days_of_its_tenant() -> None:
    read = invoice_paper(invoice(), Told({}, {"name": "Acme", "address": "1 Road\nTown"}))

    facts = dict(read.facts)
    assert facts["Period"] == "1 January 2026 \N{EN DASH} 31 January 2026"
    assert (facts["Date of issue"], facts["Due"]) == ("2 February 2026", "16 February 2026")
    assert read.receiver == Party("Acme", ("1 Road", "Town"))
    assert read.rows[0].notes == (
        "model = atlas, up to 1,000: 1,000 x 0.004 = 4.00",
        "above 1,000, flat fee: 6.00 = 6.00",
    )
    assert [(one.label, one.amount) for one in read.sums] == [
        ("Subtotal", "30.00"),
        ("Ten (10 %)", "-3.00"),
        ("Inside 10 % on 24.55, included", "2.45"),
        ("On top 20 % on 24.55", "4.91"),
        ("Total", "31.91 EUR"),
        ("Amount due", "31.91 EUR"),
    ]


def test_a_void_invoice_asks_for_nothing_and_says_why() -> None:
    read = invoice_paper(invoice(state="void"), Told({}, {}))

    assert (read.stamp, read.sums[-1].amount) == ("Void", "0.00 EUR")
    assert read.remarks == ("Withdrawn: wrong",)


def test_the_rows_for_accounting_sum_to_the_invoice() -> None:
    rows = list(accounts.of_invoice(invoice()))

    assert [row["row"] for row in rows] == ["line", "line", "tax", "tax"]
    assert sum(Decimal(row["total"]) for row in rows) == Decimal("31.91")
    assert sum(Decimal(row["tax"]) for row in rows) == Decimal("7.36")
    assert sum(Decimal(row["net"]) for row in rows) == Decimal("24.55")
    assert {tuple(row) for row in rows if set(row) != set(accounts.COLUMNS)} == set()


@pytest.mark.parametrize(
    ("price", "written"), [("0.1", "0.10"), ("0.0125", "0.0125"), ("1200", "1200.00"), (None, "")]
)
def test_accounting_reads_a_unit_price_with_the_decimals_of_its_currency_at_least(
    price: str | None, written: str
) -> None:
    billed = invoice()
    line = replace(billed.lines[0], unit_amount=None if price is None else Decimal(price))

    row = next(iter(accounts.of_invoice(replace(billed, lines=[line, billed.lines[1]]))))

    assert row["unit_amount"] == written


def test_a_withdrawn_invoice_is_one_row_of_zeros() -> None:
    (row,) = accounts.of_invoice(invoice(state="void"))

    assert (row["row"], row["number"], row["total"]) == ("void", "INV-000007", "0.00")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_text_is_a_formula_to_a_spreadsheet(start: str) -> None:
    row = next(iter(accounts.of_invoice(invoice(description=f"{start}HYPERLINK(1)"))))

    assert row["description"] == f"'{start}HYPERLINK(1)"
