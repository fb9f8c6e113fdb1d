"""A machine of a mesh that is rebooted under a real systemd: it is back without hands."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shore.lab.member import Member
from shore.lab.net import LabFailed, Net, until
from shore.lab.systemd import SHORE, Systemd

pytestmark = [pytest.mark.lab, pytest.mark.slow]
BACK_WITHIN_S = 20.0


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as made:
        for host in made.hosts:
            host.resolve_by("192.0.2.53")
        yield made


def booted(stack: ExitStack, net: Net, disk: Path) -> Systemd:
    try:
        return stack.enter_context(Systemd(net.a, disk))
    except (LabFailed, OSError) as error:
        pytest.skip(f"LAB SKIPPED: no systemd of our own can run here: {error}")


def test_a_node_that_joined_is_back_after_a_reboot_and_not_after_logout(net: Net, tmp_path: Path) -> None:
    hub = Member(net.b, "hub")
    try:
        token = hub.found()
        with ExitStack() as stack:
            machine = booted(stack, net, tmp_path)
            machine.run(SHORE, "up", "--join", "-", "--name", "laptop", stdin=token)
            laptop = machine.run(SHORE, "ip").split()[0]
            assert machine.run("systemctl", "is-enabled", "shore@shore0").strip() == "enabled"
            until(lambda: net.b.reaches(laptop, within_s=1), within_s=5)
            machine.run(SHORE, "down")
        with ExitStack() as stack:
            machine = booted(stack, net, tmp_path)
            until(lambda: net.b.reaches(laptop, within_s=1), within_s=BACK_WITHIN_S)
            assert machine.ask("shore@shore0", "ActiveState") == "active"
            assert "left the network" in machine.run(SHORE, "logout")
            assert machine.run("systemctl", "is-enabled", "shore@shore0", check=False).strip() == "disabled"
    finally:
        hub.down()


def test_the_machine_of_server_and_relay_is_back_after_a_reboot(net: Net, tmp_path: Path) -> None:
    laptop = Member(net.b, "laptop")
    try:
        with ExitStack() as stack:
            machine = booted(stack, net, tmp_path)
            laptop.join(machine.run(SHORE, "up", "--new", "--name", "hub").split()[-1])
            hub = machine.run(SHORE, "ip").split()[0]
            until(lambda: net.b.reaches(hub, within_s=1), within_s=5)
            assert owner(machine, "server") == owner(machine, "relay") == "shore"
            machine.run(SHORE, "down", "--all")
        with ExitStack() as stack:
            machine = booted(stack, net, tmp_path)
            until(lambda: net.b.reaches(hub, within_s=1), within_s=BACK_WITHIN_S)
            for unit in ("shore@shore0", "shore-server", "shore-relay"):
                until(lambda unit=unit: machine.ask(unit, "ActiveState") == "active", BACK_WITHIN_S)
            until(lambda: links_up(laptop) == {"server", "relay"}, within_s=BACK_WITHIN_S)
            machine.run(SHORE, "down")
            machine.run(SHORE, "server", "stop")
    finally:
        laptop.down()


def owner(machine: Systemd, program: str) -> str:
    return machine.run("stat", "-c", "%U", f"/var/lib/shore/{program}").strip()


def links_up(member: Member) -> set[str]:
    return {link.kind for link in member.status().links if link.state == "up"}
