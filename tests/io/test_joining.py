"""Joining and leaving a network, against a server over TLS on loopback."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.core.netmaps import NETWORK, NOW, TRUST
from tests.io.connect_proxy import ConnectProxy
from tests.io.control_server import ControlServer

from shore import _native
from shore.io import identity as kept
from shore.io import joining
from shore.io.identity import Identity, Network
from shore.io.joining import NotJoined, leave
from shore.model.netmap import Signed
from shore.wire import control
from shore.wire.token import Token


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def silent(_said: str) -> None:
    return None


async def join(
    token: Token,
    name: str,
    interface: str,
    within: float,
    say: Callable[[str], None],
    *,
    proxy: str | None = None,
) -> Identity:
    asked = Network(interface, name, token.root, token.addresses, proxy=proxy)
    return await joining.join(token, asked, within, say)


async def test_a_token_makes_a_member_and_everything_is_on_disk(tmp_path: Path, state: Path) -> None:
    async with ControlServer(tmp_path) as server:
        joined = await join(server.token, "laptop", "shore0", 5, silent)
    assert joined == kept.read()
    assert joined.held is not None
    assert (joined.network.network, joined.network.root) == (NETWORK, TRUST.root)
    enrol = next(said for said in server.heard if isinstance(said, control.Enrol))
    assert enrol.name == "laptop"
    assert {file.name for file in (state / "node").iterdir()} == {
        "machine.key",
        "node.key",
        "network.json",
        "netmap",
    }
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in (state / "node").iterdir())


async def test_a_node_knows_itself_by_the_name_that_it_was_given(tmp_path: Path) -> None:
    async with ControlServer(tmp_path) as server:
        server.given_name = "laptop-2"
        joined = await join(server.token, "laptop", "shore0", 5, silent)
    assert joined.network.name == "laptop-2"
    assert joined == kept.read()


async def test_a_refused_token_leaves_nothing(tmp_path: Path, state: Path) -> None:
    async with ControlServer(tmp_path) as server:
        server.refusal = control.Refused("token", "this token was spent")
        with pytest.raises(NotJoined, match="this token was spent"):
            await join(server.token, "laptop", "shore0", 5, silent)
    assert not (state / "node").exists()


async def test_a_server_of_another_root_key_leaves_nothing(tmp_path: Path, state: Path) -> None:
    async with ControlServer(tmp_path) as server:
        token = msgspec.structs.replace(server.token, root=bytes(32))
        with pytest.raises(NotJoined, match="root key is not ours"):
            await join(token, "laptop", "shore0", 1, silent)
    assert server.heard == []
    assert not (state / "node").exists()


async def test_no_server_is_one_sentence_with_the_next_step(tmp_path: Path, state: Path) -> None:
    async with ControlServer(tmp_path) as server:
        pass
    with pytest.raises(
        NotJoined, match=r"no server of this network at 127\.0\.0\.1:\d+ within 1 s .*port is open"
    ):
        await join(server.token, "laptop", "shore0", 1, silent)
    assert not (state / "node").exists()


async def test_who_waits_for_approval_keeps_its_keys(tmp_path: Path) -> None:
    said: list[str] = []
    async with ControlServer(tmp_path, standing="pending") as server:
        with pytest.raises(NotJoined, match="nobody approved"):
            await join(server.token, "laptop", "shore0", 1, said.append)
        assert said == ["waiting for `shore nodes approve` on the server"]
        before = kept.read()
        assert before is not None
        for machine in server.machines.values():
            machine.standing = "member"
        joined = await join(server.token, "laptop", "shore0", 5, silent)
    assert joined.machine_seed == before.machine_seed


async def test_keys_that_the_server_may_know_outlive_a_try_that_does_not_reach_it(tmp_path: Path) -> None:
    async with ControlServer(tmp_path, standing="pending") as server:
        with pytest.raises(NotJoined, match="nobody approved"):
            await join(server.token, "laptop", "shore0", 1, silent)
    before = kept.read()
    assert before is not None
    with pytest.raises(NotJoined, match="no server of this network"):
        await join(server.token, "laptop", "shore0", 0.5, silent)
    after = kept.read()
    assert after is not None
    assert (after.machine_seed, after.node_key) == (before.machine_seed, before.node_key)


async def test_a_member_joins_no_second_network(tmp_path: Path) -> None:
    async with ControlServer(tmp_path) as server:
        before = await join(server.token, "laptop", "shore0", 5, silent)
        with pytest.raises(NotJoined, match="in a network already"):
            await join(server.token, "laptop", "shore0", 5, silent)
    assert kept.read() == before


async def test_a_member_leaves(tmp_path: Path) -> None:
    async with ControlServer(tmp_path) as server:
        joined = await join(server.token, "laptop", "shore0", 5, silent)
        assert await leave(joined, 5)
        assert isinstance(server.heard[-1], control.Leave)
    assert not await leave(joined, 1)


def test_a_damaged_identity_is_named(state: Path) -> None:
    kept.draw(kept.Network("shore0", "n", bytes(32), ("h:1",)))
    (state / "node" / "node.key").write_bytes(b"short")
    with pytest.raises(kept.Damaged, match=r"node\.key is damaged"):
        kept.read()


def test_a_netmap_that_cannot_be_read_is_asked_for_again(state: Path) -> None:
    drawn = kept.draw(kept.Network("shore0", "n", bytes(32), ("h:1",)))
    (state / "node" / "netmap").write_bytes(b"\xc1")
    assert kept.read() == drawn


async def test_admissions_on_disk_are_gone_on_with_unless_they_are_another_keys(
    tmp_path: Path, state: Path
) -> None:
    async with ControlServer(tmp_path) as server:
        joined = await join(server.token, "laptop", "shore0", 5, silent)
    key = _native.public_key(joined.node_key)
    admission = Signed(b"admission", b"by", b"signature")
    kept.keep_admitted(kept.Admitted(key, bytes(32), {"r1": admission}))
    assert (state / "node" / "admissions").stat().st_mode & 0o777 == 0o600
    read = kept.read()
    assert read is not None
    assert read.admitted == kept.Admitted(key, bytes(32), {"r1": admission})
    assert read.tunnel(NOW).admission_key == bytes(32)

    kept.keep_node_key(kept.new_node_key())
    renewed = kept.read()
    assert renewed is not None
    assert renewed.tunnel(NOW).admission_key != bytes(32)

    (state / "node" / "admissions").write_bytes(b"damaged")
    assert kept.read() == msgspec.structs.replace(renewed, admitted=None)


async def test_a_proxy_that_was_chosen_is_used_in_place_of_the_environments_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with ControlServer(tmp_path) as server, ConnectProxy() as proxy:
        joined = await join(server.token, "laptop", "shore0", 5, silent, proxy=proxy.url)
    assert proxy.asked == list(server.token.addresses)
    assert joined.network.proxy == joined.tunnel(NOW).proxy == proxy.url
    assert joined == kept.read()
