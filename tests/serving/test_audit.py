"""The audit trail by pages, and searched: what a scan of all of it would find, whatever happens to the store."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlearn.records import audit_id
from streamlearn.serving import audit
from streamlearn.serving.audit import Audit, Query, text_of
from streamlearn.testing import FakeClock, MemoryStore

WHY = ["the loss rose", "Carrier CODES changed", "a person asked", "healed: nulls are gone"]


def entry(offset: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": audit_id(offset), "control": offset, "type": "decision", "took_effect": True, "model": f"m{offset % 3}",
        "kind": ("held", "promoted", "confirmed")[offset % 3], "at": 100.0 + offset, "case": "", "by": "control",
        "why": WHY[offset % 4], "numbers": {"p": 0.25, "diagnosis": {"kind": "null_jump", "features": ["<b>color</b>"]}},
    } | fields  # fmt: skip


def stored(count: int, gaps: frozenset[int] = frozenset()) -> MemoryStore:
    store = MemoryStore(clock=FakeClock())
    docs = {("audit", audit_id(n)): msgspec.json.encode(entry(n)) for n in range(count) if n not in gaps}
    store.put_views(docs, count)
    return store


def all_pages(trail: Audit, query: Query) -> list[int]:
    """The offsets of every page, one after the other."""
    seen: list[int] = []
    after = query.after
    while True:
        page, further, total = trail.page(Query(**{name: getattr(query, name) for name in Query.__slots__} | {"after": after}))
        assert len(page) <= query.limit
        seen += [doc["control"] for doc in page]
        if further is None:
            assert total is None or query.after is not None or total == len(seen)
            return seen
        assert further == page[-1]["id"]
        after = further


@pytest.mark.parametrize("desc", [False, True])
@pytest.mark.parametrize("gaps", [frozenset(), frozenset({0, 3, 4, 5, 6, 7, 8, 9, 10, 24})])
@pytest.mark.parametrize("limit", [1, 4, 7, 100])
def test_pages_hold_all_of_it_in_order(desc: bool, gaps: frozenset[int], limit: int) -> None:
    trail = Audit(stored(25, gaps))
    everything = [n for n in range(25) if n not in gaps]
    assert all_pages(trail, Query(limit, desc=desc)) == (everything[::-1] if desc else everything)
    assert all_pages(trail, Query(limit, after=audit_id(12), desc=desc)) == [
        n for n in (everything[::-1] if desc else everything) if (n < 12 if desc else n > 12)
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={
        "q": st.sampled_from(["carrier codes", "CODES", "nothing such", "loss", "color</b>", "the the", "m1 held"]),
        "model": st.sampled_from(["m0", "m1", "none"]), "type": st.sampled_from(["decision", "request"]),
        "kind": st.sampled_from(["held", "promoted"]), "by": st.sampled_from(["CONTROL", "ann"]),
        "since": st.floats(90, 150), "until": st.floats(90, 150),
    }),
    st.booleans(), st.integers(1, 30),
)  # fmt: skip
def test_a_search_finds_what_a_scan_finds(wanted: dict[str, Any], desc: bool, limit: int) -> None:
    docs = [entry(n) for n in range(40)]

    def fits(doc: dict[str, Any]) -> bool:
        text = msgspec.json.encode(doc).decode().casefold()
        return (
            all(word in text for word in wanted.get("q", "").casefold().split())
            and all(doc[name] == wanted[name] for name in ("model", "type", "kind") if name in wanted)
            and wanted.get("by", "").casefold() in doc["by"]
            and wanted.get("since", 0.0) <= doc["at"] < wanted.get("until", 1e9)
        )

    expected = [doc["control"] for doc in docs if fits(doc)]
    assert all_pages(Audit(stored(40)), Query(limit, desc=desc, **wanted)) == (expected[::-1] if desc else expected)


def test_what_is_new_is_found_and_read_once() -> None:
    store = stored(5)
    trail = Audit(store)
    assert trail.page(Query(10, kind="held"))[2] == 2
    asked: list[str] = []
    views = store.views
    store.views = lambda kind, ids=None: asked.extend(ids or ["all"]) or views(kind, ids)  # type: ignore[method-assign]
    store.put_views({("audit", audit_id(5)): msgspec.json.encode(entry(5, kind="held", by="ann"))}, 6)
    page, _, total = trail.page(Query(10, kind="held", desc=True))
    assert (total, page[0]["by"]) == (3, "ann")
    assert asked == [audit_id(5), audit_id(5), audit_id(3), audit_id(0)]


def test_a_request_is_found_by_its_action_and_a_claim_by_its_holder() -> None:
    store = stored(0)
    request = {"type": "request", "model": "m", "action": "hold", "by": "ann (key ops)", "at": 5.0, "reason": "odd"}
    claim = {"type": "claim", "model": "m", "holder": "host-1/77", "at": 6.0}
    store.put_views({("audit", audit_id(n)): msgspec.json.encode(doc) for n, doc in enumerate((request, claim))}, 2)
    trail = Audit(store)
    assert [doc["id"] for doc in trail.page(Query(5, kind="hold", by="KEY OPS"))[0]] == [audit_id(0)]
    assert [doc["id"] for doc in trail.page(Query(5, by="host-1"))[0]] == [audit_id(1)]


def test_views_that_were_lost_and_made_again_are_indexed_anew() -> None:
    store = stored(10)
    trail = Audit(store)
    assert trail.page(Query(10, kind="held"))[2] == 4
    store.clear_views()
    assert trail.page(Query(10, kind="held")) == ([], None, 0)
    store.put_views({("audit", audit_id(0)): msgspec.json.encode(entry(0, kind="other"))}, 20)  # of another log, and longer
    assert trail.page(Query(10, kind="held")) == ([], None, 0)
    assert trail.page(Query(10, kind="other"))[2] == 1


def test_views_of_another_log_that_came_between_two_searches_are_noticed() -> None:
    store = stored(10)
    trail = Audit(store)
    assert trail.page(Query(10, kind="held"))[2] == 4
    store.clear_views()
    store.put_views({("audit", audit_id(11)): msgspec.json.encode(entry(11, kind="held"))}, 12)
    assert [doc["control"] for doc in trail.page(Query(10, kind="held"))[0]] == [11]


@pytest.mark.parametrize("after", ["nope", "4", "", audit_id(25), "-1", "²"])
def test_an_unknown_place_to_go_on_from(after: str) -> None:
    with pytest.raises(KeyError):
        Audit(stored(25)).page(Query(5, after=after))


def test_the_index_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST", 20)
    monkeypatch.setattr(audit, "PAGE", 7)
    store = stored(50)
    trail = Audit(store)
    assert all_pages(trail, Query(100, type="decision")) == list(range(30, 50))
    for end in range(51, 90):
        store.put_views({("audit", audit_id(end - 1)): msgspec.json.encode(entry(end - 1))}, end)
        found = all_pages(trail, Query(100, type="decision"))
        assert found[-1] == end - 1
        assert 20 <= len(found) <= 27
        assert found == list(range(found[0], end))


def test_a_text_is_cut_and_says_first_what_matters() -> None:
    doc = entry(1, why="x" * 50, numbers={"settings": {str(n): f"value{n}" for n in range(2000)}, "blocks": [0.5] * 5000})
    text = text_of(msgspec.json.encode(doc).decode())
    assert len(text) == audit.TEXT
    assert text.startswith(f"{audit_id(1)} decision m1 promoted  control " + "x" * 50)
    assert "value3" in text


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8,
))  # fmt: skip
def test_the_texts_are_the_strings_that_are_values(value: Any) -> None:
    def texts(one: Any) -> list[str]:
        if isinstance(one, dict):
            one = list(one.values())
        return [text for inner in one for text in texts(inner)] if isinstance(one, list) else [one] * isinstance(one, str)

    assert text_of(msgspec.json.encode(value).decode()) == " ".join(texts(value))


def test_it_finds_among_many_at_once() -> None:
    rng = random.Random(3)
    store = MemoryStore(clock=FakeClock())
    words = ["alpha", "beta", "gamma", "delta"]
    docs = [entry(n, why=" ".join(rng.choices(words, k=3)) + f" {n}") for n in range(3000)]
    store.put_views({("audit", doc["id"]): msgspec.json.encode(doc) for doc in docs}, 3000)
    page, further, total = Audit(store).page(Query(10, q="2999", desc=True))
    assert ([doc["control"] for doc in page], further, total) == ([2999], None, 1)
