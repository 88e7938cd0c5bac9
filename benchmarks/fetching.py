"""An experiment: a Kafka log whose fetching and decoding is done ahead by a process of its own, and handed over by a pipe.

It is not in the product: learning was 9 % slower to 5 % faster with it, and it takes a process and more of a core. Fetching is
already ahead on the client's own thread, decoding takes 2 µs of an event's 30, and the hand-over costs a part of that again. A
thread could gain nothing, since decoding is Python under the interpreter's lock.
"""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from streamlearn.errors import PositionExpired
from streamlearn.log import CONTROL, Record
from streamlearn.log.kafka import KafkaLog

BATCH = 500
PAUSE_S = 0.002


def fetch(descriptor: int, options: dict[str, Any], stream: str, partition: int, offset: int) -> None:
    """Send the records from `offset` on, as marshalled lists of tuples, until the other end of the pipe is closed."""
    log = KafkaLog(**options)
    with Connection(descriptor, readable=False) as channel:
        try:
            while True:
                records = log.read(stream, partition, offset, BATCH)
                offset = records[-1].offset + 1 if records else offset
                channel.send_bytes(marshal.dumps([tuple(record) for record in records]))
                if not records:
                    time.sleep(PAUSE_S)
        except BrokenPipeError:
            pass
        finally:
            log.close()


class FetchingLog(KafkaLog):
    """A log that reads the one partition it is asked for, in order, by a process of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._options = options
        self._channel: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._next = 0
        self._rest: list[Record] = []

    def read(self, stream: str, partition: int, offset: int, limit: int) -> list[Record]:
        """As the log's own; the first call for a stream says where to begin. Raises PositionExpired for a jump."""
        if stream == CONTROL:  # read once, when a shard begins
            return super().read(stream, partition, offset, limit)
        channel = self._channel or self._start(stream, partition, offset)
        if offset != self._next:
            raise PositionExpired(stream, partition, offset, self._next, self._next)
        if not self._rest and channel.poll(PAUSE_S):
            self._rest = [Record._make(row) for row in marshal.loads(channel.recv_bytes())]
        found, self._rest = self._rest[:limit], self._rest[limit:]
        if found:
            self._next = found[-1].offset + 1
        return found

    def _start(self, stream: str, partition: int, offset: int) -> Connection:
        ours, other = os.pipe()
        words = json.dumps([other, self._options, stream, partition, offset])
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.fetching", words], pass_fds=[other])
        os.close(other)
        self._next, self._channel = offset, Connection(ours, writable=False)
        return self._channel

    def close(self) -> None:
        """End the process too: it finds the pipe closed."""
        if self._channel is not None and self._process is not None:
            self._channel.close()
            self._process.wait(10)
            self._channel = None
        super().close()


if __name__ == "__main__":
    fetch(*json.loads(sys.argv[1]))
