"""The stamps of handshakes against a clock that is wrong, or was."""

import msgspec
import pytest

from shore.core.actions import Announce, KeepStamp, KillPlane
from shore.core.events import (
    Attached,
    ClockRead,
    Configured,
    PlaneLost,
    PlaneStarted,
    SocketsOpened,
    StampRemembered,
)
from shore.core.node import Node
from shore.core.status import tunnel_status
from shore.model.config import PeerConfig, TunnelConfig
from shore.model.desired import Socket

CONFIG = TunnelConfig("wg0", b"\1" * 32, peers=(PeerConfig(b"\2" * 32),))
TODAY = 1_800_000_000.0
DAY = 86400.0


class Machine:
    """A node, the time that passes, and a wall clock that may be set."""

    def __init__(self) -> None:
        self.node = Node()
        self.now = 100.0
        self.wall = TODAY
        self.said: list[str] = []
        self.kept: float | None = None

    def tell(self, *told: object) -> list[object]:
        actions = [action for event in told for action in self.node.handle(event, self.now)]  # type: ignore[arg-type]
        self.said += [action.what for action in actions if isinstance(action, Announce)]
        self.kept = ([action.stamp for action in actions if isinstance(action, KeepStamp)] or [self.kept])[-1]
        return actions

    def boot(self, *, remembered: float, wall: float) -> None:
        """`up`, as the shell tells it."""
        self.wall = wall
        self.read()
        self.tell(StampRemembered(remembered))
        self.read()
        self.tell(Configured(CONFIG), SocketsOpened(4000, (Socket(1, 4),)), PlaneStarted(7))
        self.read()

    def read(self) -> list[object]:
        return self.tell(ClockRead(self.wall))

    def passes(self, seconds: float) -> list[object]:
        self.now += seconds
        self.wall += seconds
        return self.read()

    def new_plane(self, pid: int) -> None:
        self.tell(PlaneLost("killed"), PlaneStarted(pid))
        self.read()

    @property
    def behind_s(self) -> float | None:
        status = tunnel_status(self.node, self.now, brain_pid=1, public_key=None, notes=())
        return status.clock_behind_s


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_clock_that_goes_right_is_kept_and_not_spoken_of(machine: Machine) -> None:
    machine.boot(remembered=TODAY - DAY, wall=TODAY)
    assert (machine.behind_s, machine.said) == (None, [])
    assert machine.kept == TODAY
    machine.passes(60)
    assert machine.kept == TODAY + 60


def test_a_first_start_remembers_nothing_and_says_nothing(machine: Machine) -> None:
    machine.boot(remembered=0.0, wall=TODAY)
    assert (machine.behind_s, machine.said, machine.kept) == (None, [], TODAY)


def test_nothing_is_kept_before_anything_was_stamped(machine: Machine) -> None:
    assert machine.read() == []


def test_a_clock_that_is_behind_is_announced_once_until_it_has_caught_up(machine: Machine) -> None:
    machine.boot(remembered=TODAY, wall=TODAY - DAY)
    assert machine.behind_s == DAY
    assert machine.said == ["clock behind"]
    assert machine.kept == TODAY
    machine.passes(DAY / 2)
    assert (machine.behind_s, machine.said) == (DAY / 2, ["clock behind"])
    machine.passes(DAY / 2)
    assert (machine.behind_s, machine.said) == (None, ["clock behind", "clock right again"])
    machine.passes(60)
    assert machine.kept == TODAY + 60


def test_a_tunnel_is_brought_up_by_a_clock_that_is_behind(machine: Machine) -> None:
    machine.boot(remembered=TODAY, wall=0.0)
    assert machine.node.plane.pid == 7
    assert machine.behind_s == TODAY


def test_a_clock_that_is_set_right_needs_a_new_data_plane_which_stamps_by_it(machine: Machine) -> None:
    machine.boot(remembered=TODAY, wall=TODAY - DAY)
    machine.wall = TODAY + 5
    assert [action for action in machine.read() if isinstance(action, KillPlane)] == [
        KillPlane("the clock was set, and it stamps handshakes by the old one")
    ]
    assert machine.behind_s == DAY, "until there is a new one"
    machine.new_plane(8)
    assert machine.behind_s is None
    assert machine.said[-1] == "clock right again"
    assert not [action for action in machine.passes(60) if isinstance(action, KillPlane)]


def test_a_clock_that_is_set_but_not_far_enough_changes_nothing(machine: Machine) -> None:
    machine.boot(remembered=TODAY, wall=TODAY - DAY)
    machine.wall = TODAY - 100
    assert not [action for action in machine.read() if isinstance(action, KillPlane)]
    machine.new_plane(8)
    assert machine.behind_s == 100


def test_a_clock_that_is_set_back_harms_only_the_next_data_plane(machine: Machine) -> None:
    machine.boot(remembered=0.0, wall=TODAY + DAY)
    machine.wall = TODAY
    machine.read()
    assert machine.behind_s is None, "a running plane counts on from where it started"
    machine.passes(60)
    assert machine.kept == TODAY + DAY + 60
    machine.new_plane(8)
    assert machine.behind_s == DAY


def test_a_brain_that_finds_a_plane_takes_it_for_the_one_that_stamped_last(machine: Machine) -> None:
    machine.boot(remembered=TODAY, wall=TODAY)
    state = machine.node.desired()
    assert state is not None
    heir = Machine()
    heir.tell(ClockRead(TODAY - DAY), StampRemembered(TODAY), Attached(CONFIG, 7, state, 4000))
    heir.wall = TODAY - DAY
    heir.passes(60)
    assert (heir.behind_s, heir.kept) == (DAY - 60, TODAY + 60)


def test_another_key_has_a_past_of_its_own(machine: Machine) -> None:
    machine.boot(remembered=TODAY + DAY, wall=TODAY)
    assert machine.behind_s == DAY
    machine.tell(StampRemembered(0.0), Configured(msgspec.structs.replace(CONFIG, private_key=b"\3" * 32)))
    machine.read()
    assert (machine.behind_s, machine.said[-1], machine.kept) == (None, "clock right again", TODAY)
