"""What tests with processes of their own share."""

from collections.abc import Iterator

import pytest

from tests.collector import Collector, collecting


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where the spans of all processes come together."""
    with collecting() as found:
        yield found
