"""A plot as shapes with places: what the template draws as SVG. Lengths are pixels of the plot.

Colours are the classes `s0`, `s1`, … of the page, from dark to light, so that they differ in greys.
"""

import math
from dataclasses import dataclass, field

WIDTH = 760.0
LEFT = 62.0
RIGHT = 18.0
TOP = 14.0
BOTTOM = 26.0

STEPS = (1, 2, 5, 10)
"""A scale goes by one of these, times a power of ten."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled box of a series."""

    x: float
    y: float
    width: float
    height: float
    series: int


@dataclass(frozen=True, slots=True)
class Line:
    """Joined points."""

    points: tuple[tuple[float, float], ...]
    style: str

    @property
    def path(self) -> str:
        """The points as SVG writes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign at a place: "hit" is a filled circle, "miss" a cross."""

    x: float
    y: float
    kind: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text at a place; `anchor` says which end of it stands there: start, middle, end."""

    x: float
    y: float
    text: str
    anchor: str = "middle"


@dataclass(slots=True)
class Plot:
    """A picture with the words for those who do not see it; `legend` names its series.

    The words stand below the picture too, unless it has all the figures itself (`says_all`).
    """

    title: str
    says: str
    height: float
    width: float = WIDTH
    legend: tuple[tuple[int, str], ...] = ()
    says_all: bool = False
    bars: list[Bar] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scale:
    """Places for values from `low` to `high`, from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def step_of(span: float, most: int) -> float:
    """Return a round step that cuts a span into at most `most` parts."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(step * power for step in STEPS if span / (step * power) <= most)


def upright(plot: Plot, low: float, high: float, *, bottom: float = BOTTOM) -> Scale:
    """Draw a scale at the left with lines across; return it. It reaches round values."""
    step = step_of(high - min(low, 0.0), 5)
    first, last = math.floor(min(low, 0.0) / step), max(math.ceil(high / step), 1)
    scale = Scale(first * step, last * step, plot.height - bottom, TOP)
    for nth in range(first, last + 1):
        y = scale(nth * step)
        style = "axis" if nth == 0 else "grid"
        plot.lines.append(Line(((LEFT, y), (plot.width - RIGHT, y)), style))
        plot.texts.append(Text(LEFT - 6, y + 4, short(nth * step), "end"))
    return scale


def short(value: float) -> str:
    """A round number in a few letters: "1.5 M", "20 k", "300"."""
    for limit, letter in ((1_000_000, " M"), (1_000, " k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"
