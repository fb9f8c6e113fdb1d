"""Sockets that the brain opens."""

from shore.core import actions as do
from shore.core import events
from shore.node.openings import Openings


def test_a_socket_for_trials_has_a_port_of_its_own_and_belongs_to_no_uplink() -> None:
    openings = Openings()
    opened = openings.open(do.OpenSockets(0, 0, "start"), held=0, former=0)
    assert isinstance(opened, events.SocketsOpened)
    trial = openings.open_trial(do.OpenTrialSocket((None, 4), 0))
    assert isinstance(trial, events.TrialSocketOpened)
    assert (trial.exit, trial.socket.family, trial.socket.uplink) == ((None, 4), 4, None)
    assert openings.sockets[trial.socket.id].getsockname()[1] != opened.port
    openings.close_all()


def test_a_socket_for_trials_by_an_uplink_that_is_gone_is_an_event() -> None:
    failed = Openings().open_trial(do.OpenTrialSocket(("no-such-link", 4), 0))
    assert failed == events.TrialSocketFailed(("no-such-link", 4), "No such device")


def test_a_fan_has_as_many_ports_as_sockets() -> None:
    openings = Openings()
    opened = openings.open_fan(do.OpenFan(b"\1" * 32, 20, 0))
    assert isinstance(opened, events.FanOpened)
    ports = {openings.sockets[number].getsockname()[1] for number in opened.sockets}
    assert len(ports) == len(set(opened.sockets)) == 20
    openings.close_all()
