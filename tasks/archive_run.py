"""One run of the archiver."""

import datetime as dt
import time
from dataclasses import dataclass, field

from models.store import standing
from tasks.config import Retention


@dataclass(slots=True)
class Run:
    """One run: what it obeys, when it is, until when it may go on, and what it has done."""

    terms: Retention
    now: dt.datetime
    deadline: float
    unsound: list[str] = field(default_factory=list)
    was_busy: bool = False

    @property
    def has_time(self) -> bool:
        """Whether anything further may begin."""
        return time.monotonic() < self.deadline

    @property
    def rule(self) -> standing.Rule:
        """Which usage may be closed."""
        return rule_of(self.terms)


def rule_of(terms: Retention) -> standing.Rule:
    """Return which usage may be closed."""
    return standing.Rule(age=terms.after, even_uninvoiced=terms.even_uninvoiced)
