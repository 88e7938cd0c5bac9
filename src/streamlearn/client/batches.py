"""Events on their way out of a client: each with an id, encoded, cut into requests of bounded size; and answers added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from .. import wire
from ..events import Event, new_id

CHUNK_EVENTS: Final = 500
CHUNK_BYTES: Final = 1 << 20


def chunks(events: Iterable[Event | Mapping[str, Any]], size: int) -> Iterator[tuple[int, list[bytes], dict[str, str]]]:
    """(index of the first, encoded events, ids made) of at most `size` events and about `CHUNK_BYTES` each."""
    start, total = 0, 0
    lines: list[bytes] = []
    made: dict[str, str] = {}
    for index, event in enumerate(events):
        fields = msgspec.structs.asdict(event) if isinstance(event, Event) else dict(event)
        label_alone = fields.get("x") is None and fields.get("y") is not None
        if fields.get("id") is None and not label_alone:  # a label without the id of its features is for the service to refuse
            fields["id"] = made[str(index)] = new_id()
        line = msgspec.json.encode({name: value for name, value in fields.items() if value is not None}, enc_hook=plain)
        if lines and (len(lines) >= size or total + len(line) > CHUNK_BYTES):
            given = {name: made.pop(name) for name in list(made) if int(name) < index}
            yield start, lines, given
            start, lines, total = index, [], 0
        lines.append(line)
        total += len(line)
    if lines:
        yield start, lines, made


def add(total: wire.EventsAnswer, answer: wire.EventsAnswer) -> None:
    """Make `total` the sum of itself and `answer`; of positions, the later answer's."""
    total.accepted += answer.accepted
    total.duplicate += answer.duplicate
    total.rejected += answer.rejected
    total.warnings += [warning for warning in answer.warnings if warning not in total.warnings]
    total.ids |= answer.ids
    for stream, ends in answer.positions.items():
        total.positions.setdefault(stream, {}).update(ends)


def plain(value: Any) -> Any:
    """Numbers of numpy and the like, as Python's own. Raises TypeError for anything else."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not go into an event; send a number, a string, a boolean or None")
