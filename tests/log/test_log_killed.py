"""Several processes append to one SQLite log, and are killed in the middle: nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from streamlearn.log import Entry
from streamlearn.log.sqlite import SqliteLog

# Appends calls of 1 to 20 entries for ever; each acknowledged call is noted, in one write, in a file of its own.
WRITER = """
import itertools, os, sys
from collections import deque
from pathlib import Path
from streamlearn.log import Entry
from streamlearn.log.sqlite import SqliteLog

path, who, notes = Path(sys.argv[1]), sys.argv[2], os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
log = SqliteLog(path)
waiting = deque()
for call in itertools.count():
    size = 1 + call % 20
    entries = [Entry(b"", f"{who} {call} {n} {size} ".encode() + b"." * (call % 700), 0, 1) for n in range(size)]
    waiting.append((call, log.append("s", entries)))
    if len(waiting) > 5:
        number, future = waiting.popleft()
        places = future.result(60)
        os.write(notes, "".join(f"{offset} {who} {number} {n}\\n" for n, (_, offset) in enumerate(places)).encode())
"""


def start(path: Path, who: str, notes: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), who, str(notes)])


@pytest.mark.slow
def test_processes_append_and_are_killed(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = SqliteLog(path)
    log.create({"s": 2})
    chance = random.Random(7)
    running: list[subprocess.Popen[bytes]] = []
    born = 0
    own = 0
    try:
        for _ in range(6):
            while len(running) < 3:
                running.append(start(path, f"w{born}", tmp_path / f"notes-{born}"))
                born += 1
            goal, deadline = log.bounds("s", 1)[1] + 3000, time.monotonic() + 30
            while log.bounds("s", 1)[1] < goal and time.monotonic() < deadline:
                log.append("s", [Entry(b"", b"own %d 0 1 " % own, 0, 1)]).result(30)
                own += 1
                time.sleep(chance.uniform(0, 0.02))
            victim = running.pop(chance.randrange(len(running)))
            os.kill(victim.pid, signal.SIGKILL)
            assert victim.wait(30) == -signal.SIGKILL
    finally:
        for process in running:
            process.kill()
            process.wait(30)
        log.close()

    again = SqliteLog(path)
    first, end = again.bounds("s", 1)
    records = again.read("s", 1, 0, end)
    again.close()
    assert first == 0
    assert [record.offset for record in records] == list(range(end))
    assert all(a.ts <= b.ts for a, b in pairwise(records))

    names = [record.value.split(b" ")[:3] for record in records]
    assert len(set(map(tuple, names))) == len(names), "something is there twice"

    acknowledged = 0
    for notes in sorted(tmp_path.glob("notes-*")):
        for line in notes.read_bytes().splitlines():
            offset, *name = line.split(b" ")
            assert names[int(offset)] == name
            acknowledged += 1
    assert acknowledged >= 5000
    assert sum(name[0] == b"own" for name in names) == own

    # A call is there as a whole, or not at all, and its entries stand side by side.
    for index, record in enumerate(records):
        who, call, n, size = record.value.split(b" ")[:4]
        if n == b"0":
            wanted = [[who, call, b"%d" % k] for k in range(int(size))]
            assert names[index : index + int(size)] == wanted
