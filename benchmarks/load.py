"""A small closed-loop HTTP load: N keep-alive connections, each sends its next request when the last is answered.

`python -m benchmarks.load PORT PATH JSON_BODY CONNECTIONS SECONDS`, loopback only; each request gets an id of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop


async def connection(port: int, path: str, body: str, until: float, place: int, times: list[float], bad: list[int]) -> None:
    """Send until `until` (monotonic seconds); latencies in seconds go to `times`, statuses other than 200 to `bad`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    count = 0
    while time.monotonic() < until:
        payload = f'{{"id":"load-{place}-{count}",{body[1:]}'.encode()
        started = time.perf_counter()
        writer.write(f"{head}{len(payload)}\r\n\r\n".encode() + payload)
        answer = await reader.readuntil(b"\r\n\r\n")
        lower = answer.lower()
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - started)
        status = int(answer[9:12])
        if status != 200:
            bad.append(status)
        count += 1
    writer.close()


async def run(port: int, path: str, body: str, connections: int, seconds: float) -> dict[str, float]:
    """All connections at once."""
    times: list[float] = []
    bad: list[int] = []
    began = time.monotonic()
    until = began + seconds
    await asyncio.gather(*(connection(port, path, body, until, place, times, bad) for place in range(connections)))
    spent = time.monotonic() - began
    times.sort()
    return {
        "requests": len(times),
        "per_s": len(times) / spent,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[int(len(times) * 0.99)],
        "errors": len(bad),
    }


if __name__ == "__main__":
    port, path, body, connections, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(run(int(port), path, body, int(connections), float(seconds)))))
