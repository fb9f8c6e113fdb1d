"""The node's name server on loopback: what it answers, and whom it asks for the rest."""

import asyncio
import socket
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.message
import dns.rcode
import dns.rrset
import pytest

from shore.io import names as under_test
from shore.io.names import NameServer
from shore.wire.names import Zone

ZONE = Zone("shore.internal", ("100.64.0.0/10",), {"hub.shore.internal": ("100.64.0.1",)})


class Upstream(asyncio.DatagramProtocol):
    """Every name has the address 192.0.2.80 there."""

    asked = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, content: bytes, asker: tuple[str, int]) -> None:
        type(self).asked += 1
        reply = dns.message.make_response(dns.message.from_wire(content))
        reply.answer.append(dns.rrset.from_text(reply.question[0].name, 5, "IN", "A", "192.0.2.80"))
        self.transport.sendto(reply.to_wire(), asker)


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Upstream, local_addr=("127.0.0.3", 0))
    monkeypatch.setattr(under_test, "PORT", transport.get_extra_info("sockname")[1])
    # Ourselves come first: a server that asked itself would never end.
    monkeypatch.setattr(under_test, "servers_before", lambda: ("127.0.0.2", "127.0.0.3"))
    Upstream.asked = 0
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        chosen: int = free.getsockname()[1]
    server = NameServer("127.0.0.2", lambda: ZONE, lambda: 0, port=chosen)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(*server.open()))
        yield chosen
        serving.cancel()
    transport.close()


@pytest.mark.parametrize("ask", [dns.asyncquery.udp, dns.asyncquery.tcp])
async def test_a_name_of_the_network_never_leaves_the_machine(port: int, ask: object) -> None:
    assert callable(ask)
    for name, code in (("hub", dns.rcode.NOERROR), ("nobody", dns.rcode.NXDOMAIN)):
        query = dns.message.make_query(f"{name}.shore.internal", "A")
        said = await ask(query, "127.0.0.2", port=port, timeout=3)
        assert said.rcode() == code
    assert Upstream.asked == 0


async def test_every_other_name_is_asked_of_the_servers_from_before(port: int) -> None:
    query = dns.message.make_query("example.com", "A")
    said = await dns.asyncquery.udp(query, "127.0.0.2", port=port, timeout=3)
    assert said.answer[0][0].to_text() == "192.0.2.80"
    assert Upstream.asked == 1


async def test_a_port_in_use_is_an_error_of_its_opening(port: int) -> None:
    with pytest.raises(OSError, match="in use"):
        NameServer("127.0.0.2", lambda: ZONE, lambda: 0, port=port).open()
