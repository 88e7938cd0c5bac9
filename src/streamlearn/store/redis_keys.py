"""The names of the keys in Redis; `redis` says what is under each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Place = tuple[str, int]


class Keys:
    """The keys that begin with `prefix`. What is in braces decides on which node of a Cluster a key lies."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._root = prefix, f"{{{prefix}}}:v1"

    def _tag(self, place: Place) -> str:
        return f"{{{self._prefix}:{place[0]}/{place[1]}}}"

    def _shard(self, place: Place) -> str:
        return f"{self._tag(place)}:v1:shard"

    def _versions(self, place: Place) -> str:
        return f"{self._tag(place)}:v1:versions"

    def _pieces(self, place: Place) -> str:
        return f"{self._tag(place)}:v1:pieces"

    def _tables(self, place: Place) -> str:
        return f"{self._tag(place)}:v1:tables"

    def _hashes(self, place: Place) -> tuple[str, ...]:
        """All that hold pointers to what is a shard's."""
        return self._shard(place), self._versions(place), self._pieces(place), self._tables(place)

    def _series(self, model: str, step: int) -> str:
        return f"{{{self._prefix}:{model}}}:v1:history:{step}"

    def _view_keys(self, kinds: Sequence[str] | Mapping[str, int]) -> list[str]:
        root = self._root
        heads = [f"{root}:viewed", f"{root}:kinds", f"{root}:arrivals"]
        return heads + [key for kind in kinds for key in (f"{root}:view:{kind}", f"{root}:order:{kind}")]

    @property
    def _channel(self) -> str:
        return f"{self._root}:publications"
