"""Histories against a list: the newest last, every item once, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamlearn.recommend.history import Histories
from streamlearn.recommend.tables import Table

ITEMS = st.sampled_from([1, 2, 3, 2**63, 2**64 - 1, 0x0101010101010101, 0x0100000000000000])


@given(
    st.lists(st.tuples(ITEMS, st.sampled_from([-1.0, 0.0, 0.5, 5.0]), st.floats(-1e12, 1e12)), max_size=60), st.integers(1, 5)
)
def test_it_is_a_list_of_the_newest(events: list[tuple[int, float, float]], limit: int) -> None:
    users = Table({}, ("history",))
    users.append()
    histories = Histories(users, limit)
    expected: dict[int, tuple[float, float]] = {}
    for item, weight, ts in events:
        expected.pop(item, None)
        expected[item] = (weight, ts)
        expected = dict(list(expected.items())[-limit:])
        histories.add(0, item, weight, ts)
    found = histories.of(0)
    assert found["item"].tolist() == list(expected)
    assert found["weight"].tolist() == [weight for weight, _ in expected.values()]
    assert found["ts"].tolist() == [int(min(max(ts, 0), 2**32 - 1)) for _, ts in expected.values()]
    assert histories.liked(0).tolist() == [item for item, (weight, _) in expected.items() if weight > 0]
