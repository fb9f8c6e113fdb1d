"""What nobody thought of ends the link that it concerns, or is tried again, and the server says so."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock

import pytest
from tests.coordination.test_mesh import NOW, join, told

from shore.coordination import link
from shore.coordination.found import found, read_key
from shore.coordination.mesh import Mesh
from shore.coordination.repository import Repository
from shore.io import watchdog
from shore.io.watchdog import Watchdog
from shore.wire import control


def linked() -> tuple[link.Link, AsyncMock]:
    founded = SimpleNamespace(pin=bytes(32), root=bytes(32), statements=())
    socket = AsyncMock()
    return link.Link(socket, Mock(founded=founded)), socket


async def test_a_defect_in_a_link_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    live, _ = linked()
    monkeypatch.setattr(live, "_hear_one", AsyncMock(side_effect=KeyError("nobody thought of it")))
    with pytest.raises(ExceptionGroup) as raised:
        await live.live()
    assert raised.group_contains(KeyError, match="nobody thought of it")


@pytest.mark.parametrize(("call", "error"), [("send_bytes", RuntimeError), ("receive_bytes", KeyError)])
async def test_a_link_that_is_closed_or_says_text_ends_in_silence(call: str, error: type[Exception]) -> None:
    live, socket = linked()
    setattr(socket, call, AsyncMock(side_effect=error("bytes")))
    await live.live()


async def test_nodes_are_told_again_after_an_accident_and_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "LEAST_WAIT", 0.01)
    founded = found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    repository = Repository(f"sqlite+aiosqlite:///{tmp_path}/server/server.db")
    mesh = Mesh(founded, read_key(tmp_path / "server" / "netmap.key"), repository)
    await mesh.load(NOW)
    failed = asyncio.Event()
    watching = Watchdog(lambda _what, _why: failed.set())
    mesh.notes = watching.notes
    one = await join(mesh, 1)
    assert isinstance(await told(one), control.NetmapIs)
    assert isinstance(await told(one), control.Admissions)
    settle = mesh.netmaps.settle
    monkeypatch.setattr(mesh.netmaps, "settle", Mock(side_effect=KeyError("a peer")))
    running = asyncio.get_running_loop().create_task(watching.keep("telling nodes", mesh.run))
    await asyncio.wait_for(failed.wait(), 2)
    monkeypatch.setattr(mesh.netmaps, "settle", settle)
    await join(mesh, 2)
    assert isinstance(await told(one), control.Delta)
    assert mesh.status().notes[0].startswith("telling nodes failed")
    running.cancel()
    await asyncio.wait({running})
    await repository.close()
