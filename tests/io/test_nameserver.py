"""The node's name server on real sockets: who asks, and who is gone before he could."""

import asyncio
import socket
import struct

import pytest

from shore.io import nameserver
from shore.model.zone import Zone

ZONE = Zone("shore.internal", "fd12:3456:789a::/48", (("nas.shore.internal", ("100.64.7.2",)),))


async def test_an_asker_who_is_gone_before_he_is_let_in_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "PORT", 0)
    server = nameserver.NameServer("127.0.0.1", ZONE)
    assert server._listener is not None
    with socket.create_connection(server._listener.getsockname()) as asker:
        # Closed with a reset, the connection is still in the queue and has no other end any more.
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    serving = loop.create_task(server.run())
    await asyncio.sleep(0.2)
    serving.cancel()
    await asyncio.wait({serving})
    assert complaints == []
