"""A page as HTML that needs nothing else: no script, no font, no picture from elsewhere."""

import functools
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from tasks.papers.paper import Paper


def render(paper: Paper) -> str:
    """Return the page as one HTML document. Every text on it is escaped."""
    return _template().render(paper=paper)


@functools.cache
def _template() -> Template:
    # Names and descriptions are written by strangers: everything is escaped. What the template
    # names and does not get is an error, not an empty place.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    path = Path(__file__).with_name("paper.html.jinja")
    return environment.from_string(path.read_text(encoding="utf-8"))
