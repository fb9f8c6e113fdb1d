"""Between the heart and the disk: each key's own stamp, and a disk that takes nothing."""

import time
from pathlib import Path

import pytest

from shore import _native
from shore.core import events
from shore.io import state
from shore.model.config import TunnelConfig
from shore.model.links import Lifetime
from shore.node.stamping import Stamping

FIRST, SECOND = b"\1" * 32, b"\2" * 32


class Heard:
    def __init__(self) -> None:
        self.told: list[events.Event] = []
        self.said: list[tuple[str, str]] = []
        self.stamping = Stamping(self.told.append, lambda what, why: self.said.append((what, why)))

    def stamps(self) -> list[float]:
        return [event.stamp for event in self.told if isinstance(event, events.StampRemembered)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_a_stamp_from_the_future_is_told_with_the_clock(heard: Heard) -> None:
    future = time.time() + 86400
    state.write_stamp(_native.public_key(FIRST), future)
    heard.stamping.use(TunnelConfig("wg0", FIRST))
    assert heard.stamps() == [future]
    clock = heard.told[-1]
    assert isinstance(clock, events.ClockRead)
    assert abs(clock.wall - time.time()) < 60


def test_a_key_is_remembered_once_and_each_for_itself(heard: Heard) -> None:
    heard.stamping.use(TunnelConfig("wg0", FIRST))
    heard.stamping.keep(5.0)
    heard.stamping.use(TunnelConfig("wg0", FIRST, mtu=1300))
    heard.stamping.use(TunnelConfig("wg0", SECOND))
    heard.stamping.keep(6.0)
    heard.stamping.use(TunnelConfig("wg0", FIRST))
    assert heard.stamps() == [0.0, 0.0, 5.0]
    assert state.read_stamp(_native.public_key(SECOND)) == 6.0


def test_a_tunnel_without_a_key_has_nothing_to_keep(heard: Heard, place: Path) -> None:
    heard.stamping.use(TunnelConfig("wg0", None))
    heard.stamping.keep(5.0)
    assert (heard.told, place.exists()) == ([], False)


def test_a_disk_that_takes_nothing_is_announced_once(heard: Heard, place: Path) -> None:
    place.write_text("a file")
    heard.stamping.use(TunnelConfig("wg0", FIRST))
    heard.stamping.keep(5.0)
    heard.stamping.keep(6.0)
    assert [what for what, _ in heard.said] == ["state not kept"]


def test_what_is_known_of_nats_is_told_once_and_kept(heard: Heard) -> None:
    heard.stamping.keep_lifetime(Lifetime("net", 20, 25))
    heard.stamping.use(TunnelConfig("wg0", FIRST))
    heard.stamping.use(TunnelConfig("wg0", SECOND))
    told = [event for event in heard.told if isinstance(event, events.LifetimesRemembered)]
    assert told == [events.LifetimesRemembered((Lifetime("net", 20, 25),))]
