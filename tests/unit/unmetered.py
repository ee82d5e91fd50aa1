"""Usage events as they are checked where no metric has a meter."""

import datetime as dt
import functools
from collections.abc import Sequence
from typing import Any

from tasks import cloud_event, usage_chunk, usage_event


def check(events: Sequence[Any], *, latest: dt.datetime) -> usage_event.Checked:
    """Tell good events from bad ones, in either shape."""
    by_fields = functools.partial(usage_event.check, latest=latest)
    looked = usage_chunk.Looked(events, latest, cloud_event.check(events, check=by_fields))
    return usage_chunk.judge(looked, meters=lambda _: {})
