"""What the unit hears, and what a data plane's scope is called."""

import socket
from pathlib import Path

from shore.io.notify import Unit
from shore.io.systemd import in_scope, is_asked_for


def listening(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.settimeout(2)
    return listener


def test_the_unit_hears_what_is_said(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1", "HOME": "/"}
    assert is_asked_for(environment)
    with listening(address) as listener:
        unit = Unit(environment)
        unit.say("READY=1", "STATUS=up")
        assert listener.recv(100) == b"READY=1\nSTATUS=up"
    assert (unit.exists, unit.watchdog_s) == (True, 10.0)


def test_no_child_of_ours_finds_the_unit(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Unit(environment)
    assert environment == {"HOME": "/"}


def test_an_abstract_address_is_understood(tmp_path: Path) -> None:
    name = f"shore-test-{tmp_path}"[:100]
    with listening("\0" + name) as listener:
        Unit({"NOTIFY_SOCKET": "@" + name}).say("READY=1")
        assert listener.recv(100) == b"READY=1"


def test_a_systemd_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    Unit({"NOTIFY_SOCKET": str(tmp_path / "gone")}).say("READY=1")


def test_without_systemd_there_is_no_unit_and_no_watchdog() -> None:
    unit = Unit({"WATCHDOG_USEC": "10000000"})
    unit.say("READY=1")
    assert (unit.exists, unit.watchdog_s) == (False, 0.0)
    assert not is_asked_for({})


def test_a_scope_is_named_anew_for_each_data_plane() -> None:
    first, second = in_scope("wg0", 1), in_scope("wg0", 2)
    assert first != second
    assert first[-1] == "--"
