"""A uvicorn server that ends without breaking off a client: another process may have taken over its port meanwhile.

It stops accepting, answers what comes on the connections that are open with `Connection: close`, so that clients open their
next one elsewhere, and only then closes those that have been idle.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import uvicorn

LINGER_S: Final = 2.0  # a client that has asked within this time asks again, and is told to go
LOOK_S: Final = 0.02


class Gentle(uvicorn.Server):
    """As uvicorn.Server, but for how it ends: `ending` is called first, to end what would never end by itself."""

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        self._ending()
        loop = asyncio.get_running_loop()
        until = loop.time() + LINGER_S
        while self.server_state.connections and not self.force_exit and loop.time() < until:
            await asyncio.sleep(LOOK_S)
        await super().shutdown(sockets)
