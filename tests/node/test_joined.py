"""A membership that fails takes nothing along: it is begun again from the disk, and status says so."""

import asyncio
from types import SimpleNamespace

import pytest

from shore.io import identity, watchdog
from shore.io.watchdog import Watchdog
from shore.node import mesh
from shore.node.joined import Joined


class Memberships:
    """In place of `node.mesh.Mesh`: as many as are made, of which all but the last fail."""

    def __init__(self, fail: int) -> None:
        self.restarted: list[bool] = []
        self.moved = 0
        self._fail = fail

    def __call__(self, _brain: object, _identity: object, *, restarted: bool) -> "Memberships":
        self.restarted.append(restarted)
        return self

    async def run(self) -> None:
        if len(self.restarted) <= self._fail:
            raise KeyError("nobody thought of it")
        await asyncio.sleep(60)

    def links_moved(self) -> None:
        self.moved += 1


def brain(*, in_mesh: bool) -> SimpleNamespace:
    config = SimpleNamespace(mesh="shore.internal" if in_mesh else None)
    said: list[tuple[str, str]] = []
    return SimpleNamespace(
        node=SimpleNamespace(config=config),
        attached=False,
        said=said,
        announce=lambda what, why: said.append((what, why)),
    )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Memberships:
    made = Memberships(fail=2)
    monkeypatch.setattr(watchdog, "LEAST_WAIT", 0.01)
    monkeypatch.setattr(identity, "read", object)
    monkeypatch.setattr(mesh, "Mesh", made)
    return made


async def test_a_membership_that_fails_is_begun_again_and_peers_hear_of_a_restart_once(
    made: Memberships,
) -> None:
    ours = brain(in_mesh=True)
    watching = Watchdog(ours.announce)
    joined = Joined(ours, watching)  # type: ignore[arg-type]
    joined.links_moved()
    running = asyncio.get_running_loop().create_task(joined.run())
    await asyncio.sleep(0.5)
    assert made.restarted == [True, False, False]
    assert [what for what, _ in ours.said] == ["membership failed"] * 2
    assert watching.notes()[0].startswith("membership failed 2 times: KeyError: 'nobody thought of it'")
    joined.links_moved()
    assert made.moved == 1
    running.cancel()


async def test_a_tunnel_from_a_file_has_none(made: Memberships) -> None:
    ours = brain(in_mesh=False)
    await Joined(ours, Watchdog(ours.announce)).run()  # type: ignore[arg-type]
    assert made.restarted == []


async def test_a_machine_that_left_its_network_is_told_so_and_asked_no_more(
    made: Memberships, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "read", lambda: None)
    ours = brain(in_mesh=True)
    await Joined(ours, Watchdog(ours.announce)).run()  # type: ignore[arg-type]
    assert ours.said == [("no membership", "this machine left its network: `shore down`")]
