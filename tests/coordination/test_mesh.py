"""The network as it lives: what each link is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shore.coordination.found import found, read_key
from shore.coordination.mesh import BLOCK, Mesh, Outbox, node_of
from shore.coordination.repository import Invitation, Repository
from shore.model.desired import Candidate
from shore.model.netmap import Admission, Head
from shore.wire import control, signing

NOW = 1_000_000.0
HERE = control.Whereabouts((Candidate("192.0.2.1:1", "host"),), ("relay-1",))


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    founded = found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    repository = Repository(f"sqlite+aiosqlite:///{tmp_path}/server/server.db")
    made = Mesh(founded, read_key(tmp_path / "server" / "netmap.key"), repository)
    await made.load(NOW)
    running = asyncio.get_running_loop().create_task(made.run())
    yield made
    running.cancel()
    await repository.close()


async def join(mesh: Mesh, number: int) -> Outbox:
    secret = await mesh.repository.invite(Invitation(), "root", NOW)
    row = await mesh.repository.enrol(bytes([number] * 32), bytes([number + 100] * 32), secret, "n", NOW)
    return mesh.came(node_of(row), control.Present(row.node_key, b"a" * 32, 0, 0, b""))


async def told(outbox: Outbox) -> control.FromServer | None:
    async with asyncio.timeout(2):
        sent = await outbox.waiting.get()
    return None if sent is None else control.from_server(sent)


async def test_a_member_is_told_the_whole_then_what_changes(mesh: Mesh) -> None:
    one = await join(mesh, 1)
    whole, admissions = await told(one), await told(one)
    assert isinstance(whole, control.NetmapIs)
    head = signing.unseal(whole.head, signing.NETMAP, Head)
    assert (head.node, head.digest) == (b"\x01" * 32, signing.digest(whole.records))
    assert isinstance(admissions, control.Admissions)
    admission = signing.unseal(admissions.admissions["relay-1"], signing.ADMISSION, Admission)
    assert (admission.relay, admission.node_key) == (mesh.founded.pin, b"\x65" * 32)
    await join(mesh, 2)
    delta = await told(one)
    assert isinstance(delta, control.Delta)
    assert delta.from_digest == head.digest
    result = signing.unseal(delta.head, signing.NETMAP, Head)
    assert signing.digest({**whole.records, **delta.changed}) == result.digest
    assert result.version > head.version


async def test_who_moved_is_told_of_within_the_time_that_is_promised(mesh: Mesh) -> None:
    one, two = await join(mesh, 1), await join(mesh, 2)
    for outbox in (one, two):
        while not outbox.waiting.empty():
            outbox.waiting.get_nowait()
    mesh.moved(two.number, HERE)
    begun = asyncio.get_running_loop().time()
    delta = await told(one)
    assert asyncio.get_running_loop().time() - begun < 0.3
    assert isinstance(delta, control.Delta)
    assert list(delta.changed) == [f"peer:{b'f'.hex() * 32}"]


async def test_who_is_out_is_removed_and_its_link_ends(mesh: Mesh) -> None:
    one, two = await join(mesh, 1), await join(mesh, 2)
    mesh.out(two.number)
    assert [m async for m in _until_end(two)][-1] is None
    removed = [m async for m in _until_removed(one)][-1]
    assert isinstance(removed, control.Delta)
    assert removed.removed == (f"peer:{b'f'.hex() * 32}",)


async def test_a_signal_goes_to_a_peer_and_to_nobody_else(mesh: Mesh) -> None:
    one, two = await join(mesh, 1), await join(mesh, 2)
    while not two.waiting.empty():
        two.waiting.get_nowait()
    mesh.pass_on(one.number, control.Signal(b"?" * 32, "restarted"))
    assert two.waiting.empty()
    mesh.pass_on(one.number, control.Signal(b"f" * 32, "restarted"))
    assert await told(two) == control.Signal(b"e" * 32, "restarted")


async def test_versions_go_on_after_a_restart(mesh: Mesh) -> None:
    await join(mesh, 1)
    again = Mesh(mesh.founded, mesh._key, mesh.repository)
    await again.load(NOW)
    assert again.netmaps.version >= BLOCK > mesh.netmaps.version


async def test_a_link_that_takes_nothing_ends() -> None:
    outbox = Outbox(1)
    for number in range(1000):
        outbox.put(control.Ping(number))
    assert outbox.ended


async def _until_end(outbox: Outbox) -> AsyncIterator[control.FromServer | None]:
    message: control.FromServer | None = control.Ping(0)
    while message is not None:
        message = await told(outbox)
        yield message


async def _until_removed(outbox: Outbox) -> AsyncIterator[control.FromServer | None]:
    message = None
    while not (isinstance(message, control.Delta) and message.removed):
        message = await told(outbox)
        yield message
