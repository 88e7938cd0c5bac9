"""Content: how fields become tokens, what a taste says of items against a plain recomputation, and which items it names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.content import FADE, LAST, Content
from streamlearn.recommend.ids import COLUMNS, Ids, hash_of
from streamlearn.recommend.tables import Rows, Table

WORDS = st.lists(st.sampled_from("abcdefg"), max_size=4, unique=True)


def made(**given_: Any) -> tuple[Ids, Content]:
    table = Table(COLUMNS, ("id", "tokens"))
    ids = Ids(table, 1000, 0)
    return ids, Content(table, ids, RecommendSettings(**given_))


def rows(*numbers: int) -> Rows:
    return np.array(numbers, np.int32)


def put(ids: Ids, content: Content, name: str, fields: dict[str, Any]) -> int:
    row = ids.row_of(name)
    row = row if row >= 0 else ids.add(name, hash_of(name), 0.0)
    content.set(row, fields, 0.0)
    return row


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({}, ["genres=Drama", "genres=War", "title=The", "title=Fog", "new=True"]),
        ({"item_fields": ("genres", "year", "none")}, ["genres=Drama", "genres=War", "year=1980"]),
        ({"separator": "|"}, ["genres=Drama", "genres=War", "title=The Fog", "new=True"]),
        ({"separator": ""}, ["genres=Drama|War|Drama", "title=The Fog", "new=True"]),
    ],
)
def test_fields_become_tokens(given_: dict[str, Any], expected: list[str]) -> None:
    fields = {"genres": "Drama|War|Drama", "title": "The Fog", "year": 1980, "new": True}
    assert made(**given_)[1].tokens_of(fields) == expected


@given(st.lists(WORDS, min_size=1, max_size=8), st.lists(st.integers(0, 7), max_size=8))
def test_it_scores_as_recomputed(items: list[list[str]], history: list[int]) -> None:
    ids, content = made()
    for number, words in enumerate(items):
        put(ids, content, f"i{number}", {"f": "x"})  # they had other fields before
        put(ids, content, f"i{number}", {"f": "|".join(words)})
    history = [at for at in history if at < len(items)]
    taste = content.taste(rows(*history))
    alike, liked = content.scores(rows(*range(len(items))), taste)
    count = {word: sum(word in words for words in items) for word in "abcdefg"}
    described, total = sum(map(bool, items)), sum(map(len, items))
    square = {word: np.log1p(described / n) ** 2 for word, n in count.items() if n}
    length = [sum(square[word] for word in words) ** 0.5 for words in items]
    tokens = sum(FADE ** (len(history) - 1 - at) for at, number in enumerate(history) for _ in items[number])
    for number, words in enumerate(items):
        near = sum(
            (place + 1) ** -0.5 * sum(square[word] for word in words if word in items[at]) / (length[at] * length[number])
            for place, at in enumerate(reversed(history[-LAST:]))
            if items[at] and words
        )
        assert alike[number] == pytest.approx(near, rel=1e-9, abs=1e-12)
        share = {
            word: sum(FADE ** (len(history) - 1 - at) for at, other in enumerate(history) if word in items[other])
            / max(tokens, 1e-30)
            for word in words
        }
        by_rarity = sum(share[word] / ((count[word] + 1) / (total + 1)) ** 0.5 for word in words)
        assert liked[number] == pytest.approx(by_rarity / max(len(words), 1) ** 0.5, rel=1e-9, abs=1e-12)


def test_a_taste_names_the_items_that_got_its_tokens_last() -> None:
    ids, content = made()
    first = put(ids, content, "first", {"f": "a"})
    other = put(ids, content, "other", {"f": "b"})
    new = [put(ids, content, f"n{number}", {"f": "a"}) for number in range(Content.NEWEST)]
    assert content.named(content.taste(rows(first))).tolist() == new  # the first one had to go
    assert content.named(content.taste(rows(other))).tolist() == [other]
    assert content.named(content.taste(rows())).tolist() == []


def test_an_item_that_has_no_fields_any_more_is_named_by_nothing_and_counts_nowhere() -> None:
    ids, content = made()
    first, second = put(ids, content, "first", {"f": "a|b"}), put(ids, content, "second", {"f": "a"})
    content.forget(first)
    ids.remove(first)
    assert ids.add("third", hash_of("third"), 0.0) == first  # in the same row
    assert content.named(content.taste(rows(second))).tolist() == [second]
    assert content.taste(rows(first)).tokens.tolist() == []
    assert content.table["n"].tolist() == [1.0, 0.0]


def test_of_too_many_tokens_the_one_used_longest_ago_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Content, "MOST", 2)
    ids, content = made()
    first = put(ids, content, "first", {"f": "a"})
    second = put(ids, content, "second", {"f": "b"})
    third = put(ids, content, "third", {"f": "c"})
    assert len(content) == 2
    taste = content.taste(rows(first, second, third))
    assert len(taste.tokens) == 2
    assert (content.scores(rows(first, second, third), taste)[0] > 0).tolist() == [False, True, True]
    content.forget(first)
    assert content.table["n"].tolist() == [1.0, 1.0]
