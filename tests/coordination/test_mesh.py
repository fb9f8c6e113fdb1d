"""The network as it lives: what each link is told."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shore.coordination.found import found, read_key
from shore.coordination.mesh import BLOCK, EPHEMERAL_S, Mesh, node_of
from shore.coordination.outbox import Outbox
from shore.coordination.repository import Invitation, Repository
from shore.model.desired import Candidate
from shore.model.netmap import Admission, Head
from shore.wire import control, signing

NOW = time.time()
PLAIN, EPHEMERAL = Invitation(), Invitation(ephemeral=True)
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
    await asyncio.gather(running, return_exceptions=True)
    await repository.close()


async def join(mesh: Mesh, number: int, invitation: Invitation = PLAIN) -> Outbox:
    secret = await mesh.repository.invite(invitation, "root", NOW)
    row = await mesh.repository.enrol(bytes([number] * 32), bytes([number + 100] * 32), secret, "n", NOW)
    outbox = Outbox(row.machine_key)
    mesh.greeted(outbox)
    mesh.came(outbox, node_of(row), control.Present(row.node_key, b"a" * 32, 0, 0, b""))
    return outbox


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
    await asyncio.sleep(0.3)
    for outbox in (one, two):
        while not outbox.waiting.empty():
            outbox.waiting.get_nowait()
    mesh.moved(two, HERE)
    begun = asyncio.get_running_loop().time()
    delta = await told(one)
    assert asyncio.get_running_loop().time() - begun < 0.3
    assert isinstance(delta, control.Delta)
    assert list(delta.changed) == [f"peer:{b'f'.hex() * 32}"]


async def test_who_is_out_is_removed_and_its_link_ends(mesh: Mesh) -> None:
    one, two = await join(mesh, 1), await join(mesh, 2)
    await _until_known(one, 2)
    mesh.out(await mesh.repository.roll.revoke("n-2", "root", NOW), NOW)
    *_, last, end = [m async for m in _until_end(two)]
    assert isinstance(last, control.StandingIs)
    assert (last.standing, end) == ("revoked", None)
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


async def test_a_link_that_was_ended_brings_nobody_back(mesh: Mesh) -> None:
    one, two = await join(mesh, 1), await join(mesh, 2)
    stale = await mesh.repository.roll.of_machine(two.machine_key)
    assert stale is not None
    mesh.out(await mesh.repository.roll.revoke("n-2", "root", NOW), NOW)
    mesh.came(two, node_of(stale), control.Present(stale.node_key, b"a" * 32, 0, 0, b""))
    assert [member.name for member in mesh.netmaps.members] == ["n"]
    assert one.number == 1 + 1


async def test_an_ephemeral_node_is_forgotten_five_minutes_after_it_went(mesh: Mesh) -> None:
    one, two = await join(mesh, 1), await join(mesh, 2, EPHEMERAL)
    mesh.gone(one)
    mesh.gone(two)
    await mesh.sweep(time.time() + EPHEMERAL_S - 1)
    assert len(mesh.netmaps.members) == 2
    await mesh.sweep(time.time() + EPHEMERAL_S + 1)
    assert [member.name for member in mesh.netmaps.members] == ["n"]
    assert await mesh.repository.roll.of_machine(two.machine_key) is None
    assert await mesh.repository.roll.keys_out(NOW) == (b"f" * 32,)


async def test_a_node_that_came_back_in_time_is_not_forgotten(mesh: Mesh) -> None:
    two = await join(mesh, 2, EPHEMERAL)
    mesh.gone(two)
    row = await mesh.repository.roll.of_machine(two.machine_key)
    again = Outbox(two.machine_key)
    mesh.greeted(again)
    mesh.came(again, node_of(row), control.Present(row.node_key, b"a" * 32, 0, 0, b""))
    await mesh.sweep(time.time() + 2 * EPHEMERAL_S)
    assert len(mesh.netmaps.members) == 1


async def test_a_key_that_ran_out_counts_no_more_and_its_node_hears_of_it(mesh: Mesh) -> None:
    one, two = await join(mesh, 1), await join(mesh, 2)
    await _until_known(one, 2)
    mesh.changed(await mesh.repository.roll.expire("n-2", "root", NOW), NOW)
    removed = [m async for m in _until_removed(one)][-1]
    assert isinstance(removed, control.Delta)
    while not two.waiting.empty():
        heard = await told(two)
    assert isinstance(heard, control.StandingIs)
    assert heard.standing == "expired"
    await mesh.sweep(NOW + 181 * 86400)
    assert mesh.netmaps.members == ()


async def test_admissions_are_renewed_daily(mesh: Mesh) -> None:
    one = await join(mesh, 1)
    while not one.waiting.empty():
        one.waiting.get_nowait()
    await mesh.sweep(NOW + 86400)
    assert isinstance(await told(one), control.Admissions)
    await mesh.sweep(NOW + 86401)
    assert one.waiting.empty()


async def test_a_relay_hears_whom_to_let_in_and_who_is_out(mesh: Mesh) -> None:
    await join(mesh, 1)
    relay = Outbox(b"relay")
    await mesh.admit(relay, 1, NOW)
    first = await told(relay)
    assert isinstance(first, control.Admitting)
    assert first.revoked == ()
    now = time.time()
    mesh.out(await mesh.repository.roll.revoke("n", "root", now), now)
    second = await told(relay)
    assert isinstance(second, control.Admitting)
    assert second.revoked == (b"e" * 32,)


async def test_nodes_hear_of_a_relay_that_comes_back_by_fresh_admissions(mesh: Mesh) -> None:
    one = await join(mesh, 1)
    while not one.waiting.empty():
        one.waiting.get_nowait()
    await mesh.admit(Outbox(b"relay"), 1, time.time())
    fresh = await told(one)
    assert isinstance(fresh, control.Admissions)
    assert list(fresh.admissions) == ["relay-1"]


async def test_where_a_relay_says_that_it_is_goes_to_all_and_is_kept(mesh: Mesh) -> None:
    one, relay = await join(mesh, 1), Outbox(b"relay")
    await mesh.admit(relay, 1, NOW)
    await mesh.offered(relay, control.Offering(("not an address",), ()))
    await mesh.offered(relay, control.Offering(("198.51.100.7:443", "x"), ("198.51.100.7:3478",)))
    delta: control.FromServer | None = None
    while not (isinstance(delta, control.Delta) and "relay:relay-1" in delta.changed):
        delta = await told(one)
    (shown,) = mesh.status().relays
    assert (shown.id, shown.addresses, shown.online) == ("relay-1", ("198.51.100.7:443",), True)
    again = Mesh(mesh.founded, mesh._key, mesh.repository)
    await again.load(NOW)
    assert again.status().relays[0].udp_addresses == ("198.51.100.7:3478",)


async def test_a_link_that_takes_nothing_ends() -> None:
    outbox = Outbox(b"1")
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


async def _until_known(outbox: Outbox, number: int) -> None:
    message = None
    while not (
        isinstance(message, control.Delta) and f"peer:{bytes([number + 100]).hex() * 32}" in message.changed
    ):
        message = await told(outbox)
