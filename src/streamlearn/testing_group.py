"""A group in memory, for `testing.MemoryLog`: what Kafka's consumer groups do, without a broker or a clock.

Every member has its fair share once all have polled; a partition changes hands only after its holder has let it go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from .log import Place


class Group:
    """The members in the order in which they joined, and who holds what."""

    def __init__(self) -> None:
        self.members: list[MemoryMembership] = []
        self.holders: dict[Place, MemoryMembership] = {}
        self.committed: dict[Place, int] = {}

    def share(self, member: MemoryMembership) -> set[Place]:
        """What `member` shall have: every n-th of the places that all members know, in order."""
        places = sorted(set[Place]().union(*(other.places() for other in self.members)))
        return set(places[self.members.index(member) :: len(self.members)])


class MemoryMembership:
    """One member, from its first poll on.

    `lose` takes everything from it behind its back, as a broker does with one that was silent for too long.
    """

    def __init__(self, group: Group, places: Callable[[], Collection[Place]]) -> None:
        self.places, self._group, self._open = places, group, True

    def poll(self, let_go: Callable[[Collection[Place]], None]) -> frozenset[Place]:
        if not self._open:
            return frozenset()
        if self not in self._group.members:
            self._group.members.append(self)
        share, holders = self._group.share(self), self._group.holders
        going = {place for place, holder in holders.items() if holder is self} - share
        if going:
            let_go(sorted(going))
            for place in going:
                del holders[place]
        for place in share:
            holders.setdefault(place, self)
        return frozenset(place for place, holder in holders.items() if holder is self)

    def commit(self, positions: Mapping[Place, int]) -> None:
        self._group.committed.update(positions)

    def lose(self) -> None:
        """Be thrown out; the next poll joins again."""
        self._group.members.remove(self)
        for place in [place for place, holder in self._group.holders.items() if holder is self]:
            del self._group.holders[place]

    def close(self) -> None:
        if self._open and self in self._group.members:
            self.lose()
        self._open = False
