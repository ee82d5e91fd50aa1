"""Usage events, good and bad, for properties: each field is now and then what it should not be."""

import datetime as dt
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

LATEST = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
BERLIN = dt.timezone(dt.timedelta(hours=2))

NAMES = st.sampled_from(
    [
        "acme",
        "a b",
        "ключ",
        "x" * 64,
        "x" * 65,
        "",
        " a",
        "a ",
        "a\u00a0b",
        "a\x00",
        "\ud800",
        7,
        None,
    ]
)
KEYS = st.one_of(
    st.integers(0, 60).map("k{}".format),
    st.sampled_from(
        ["with space", " k", "k ", "", "k" * 128, "k" * 129, "\x7f", "\ud800", 5, ["k"]]
    ),
)
AMOUNTS = st.one_of(
    st.integers(-5, 10**18),
    st.decimals(-1, 10**18, allow_nan=True, places=3).map(str),
    st.floats(),
    st.sampled_from(
        ["007", "1e3", "+5", "٣", " 5", "1" * 19, "0." + "1" * 13, 2**70, True, None, [1]]
    ),
    st.just(Decimal("2.50")),
)
TIMES = st.one_of(
    st.datetimes(dt.datetime(1969, 12, 31), dt.datetime(2026, 6, 2)).flatmap(  # noqa: DTZ001
        lambda at: st.sampled_from(
            [
                at.isoformat(),
                at.isoformat() + "Z",
                at.isoformat() + "+02:00",
                at,
                at.replace(tzinfo=dt.UTC),
                at.replace(tzinfo=BERLIN),
            ]
        )
    ),
    st.sampled_from(["2026-05-01", "20260501T10", "2026-W18-5", "yesterday", "", 0, 1.5, [], None]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["null", "a\\u0000b", "a\x00b", "\ud800", "x" * 9_000]),
)
METADATA = st.one_of(
    st.dictionaries(st.text(max_size=3), st.recursive(LEAVES, lambda of: st.lists(of, max_size=2))),
    st.sampled_from([{}, None, [], "text", {"n": Decimal(1)}, {1: 2}]),
)


def _event(usual: dict[str, Any], odd: dict[str, Any], missing: set[str]) -> dict[str, Any]:
    return {name: value for name, value in (usual | odd).items() if name not in missing}


_USUAL = st.fixed_dictionaries(
    {
        "tenant_id": st.sampled_from(["acme", "globex"]),
        "metric": st.sampled_from(["calls", "tokens"]),
        "amount": st.one_of(st.integers(0, 99), st.integers(0, 99).map("{}.5".format)),
        "idempotency_key": st.integers(0, 60).map("k{}".format),
    },
    optional={
        "at": st.sampled_from(["2026-05-01T10:00:00Z", "2026-05-02T10:00:00.5+00:00"]),
        "metadata": st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
    },
)
_ODD = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": NAMES,
        "metric": NAMES,
        "amount": AMOUNTS,
        "idempotency_key": KEYS,
        "at": TIMES,
        "metadata": METADATA,
        "surprise": st.integers(),
    },
)
_MISSING = st.sets(
    st.sampled_from(["tenant_id", "metric", "amount", "idempotency_key"]), max_size=1
)

USUAL = _USUAL
"""Good ones, as nearly all are."""

ODD = st.one_of(
    st.builds(_event, _USUAL, _ODD, st.one_of(st.just(set()), _MISSING)),
    st.sampled_from([None, 5, "text", [], ["tenant_id"], {}]),
)
"""Good and bad ones."""

CHUNKS = st.one_of(
    st.lists(USUAL, max_size=70),
    st.builds(
        lambda usual, odd, place: [*usual[:place], *odd, *usual[place:]],
        st.lists(USUAL, max_size=60),
        st.lists(ODD, max_size=4),
        st.integers(0, 60),
    ),
)
"""Mostly good ones."""
