"""The page as HTML that needs nothing else: no script, no font, no picture from elsewhere."""

import functools
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from models import database
from models.store import charted
from worker.demo import scenario
from worker.demo.page import credit, timeline, usage, waterfall
from worker.demo.page.section import Section
from worker.demo.report import Outcome

NAME = "report.html"
"""The page, in the demo's folder."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure at the top."""

    key: str
    text: str
    words: str


@dataclass(frozen=True, slots=True)
class Page:
    """Everything on the page."""

    title: str
    words: str
    faults: tuple[str, ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]


def write(folder: Path, story: scenario.Scenario, outcome: Outcome) -> Path:
    """Draw the month from the database and write it into `folder`; return the file."""
    path = folder / NAME
    path.write_text(render(compose(story, outcome)), encoding="utf-8")
    return path


def compose(story: scenario.Scenario, outcome: Outcome) -> Page:
    """Read what the database says of the month."""
    names = {tenant.tenant_id: tenant.name for tenant in scenario.TENANTS}
    with database.transaction() as session:
        used = charted.usage_by_day(
            session, first=story.month, after=scenario.next_month(story.month)
        )
        spent = charted.credit_by_day(session, scenario.PRODUCT_KEY)
        tried = charted.attempts(session)
    parts = (
        used and usage.section(used, names),
        outcome.invoices and waterfall.section(outcome.invoices, names),
        spent and credit.section(spent, names, product="free calls"),
        tried and timeline.section(tried),
    )
    return Page(
        title=f"A month of billing: {story.month:%B %Y}",
        words=f"{len(names)} companies in as many time zones, played through real workers in "
        f"{outcome.seconds:.0f} s; drawn from the rows of the database.",
        faults=tuple(outcome.faults),
        tiles=_tiles(outcome),
        sections=tuple(part for part in parts if isinstance(part, Section)),
    )


def render(page: Page) -> str:
    """Return the page as one HTML document. Every text on it is escaped."""
    return _template().render(page=page)


def _tiles(outcome: Outcome) -> tuple[Tile, ...]:
    verdicts = [(name, outcome.verdicts.get(name, 0)) for name in ("accepted", "duplicate")]
    refused = outcome.verdicts.get("rejected", 0)
    counts = [
        ("events", outcome.events_sent, "usage events sent"),
        *((f"events/{name}", count, name) for name, count in verdicts),
        ("events/rejected", refused, "rejected, kept with the reason"),
        ("invoices", len(outcome.invoices), "invoices"),
        ("deliveries", outcome.deliveries, "webhooks delivered"),
        ("verified", outcome.subscriber["verified"], "requests with a true signature"),
        ("retried", outcome.retried, "attempts turned away and made again"),
        ("expired", outcome.expired, "batches of credit expired"),
    ]
    return tuple(Tile(f"demo/{key}", f"{count:,}", words) for key, count, words in counts)


@functools.cache
def _template() -> Template:
    # What the template names and does not get is an error, not an empty place.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    path = Path(__file__).with_name("page.html.jinja")
    return environment.from_string(path.read_text(encoding="utf-8"))
