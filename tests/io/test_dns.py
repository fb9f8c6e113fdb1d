"""resolv.conf with and without the names of a mesh, and after everything that may interrupt."""

import subprocess
from pathlib import Path

import pytest

from shore.io.host import dns
from shore.model.host import HostPlan, SplitNames

BEFORE = "# mine\nsearch corp.example\nnameserver 9.9.9.9\nnameserver 149.112.112.112\noptions edns0\n"
MESH = HostPlan("shore0", (), 1420, (), names=SplitNames("100.64.0.1", "shore.internal", ("shore.internal",)))
OTHER_MESH = HostPlan("shore1", (), 1420, (), names=SplitNames("100.64.0.2", "b.internal", ("b.internal",)))
FILE = HostPlan("wg0", (), 1420, (), dns_servers=("10.8.0.2",), dns_search=("office.example",))


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(dns, "RESOLVED", tmp_path / "resolve")
    monkeypatch.setattr(dns, "RESOLV_CONF", tmp_path / "resolv.conf")
    (tmp_path / "resolv.conf").write_text(BEFORE)
    return tmp_path / "resolv.conf"


def lines(conf: Path) -> list[str]:
    return conf.read_text().splitlines()[1:]


def test_a_tunnel_of_a_file_stands_in_place_of_all_others(conf: Path) -> None:
    dns.apply_dns(FILE)
    assert conf.read_text() == (
        "# Written by Shore for the tunnel wg0; `shore down wg0` restores what was here.\n"
        "search office.example\nnameserver 10.8.0.2\n"
    )
    assert dns.servers_before() == ("9.9.9.9", "149.112.112.112")
    dns.remove_dns("wg0")
    assert conf.read_text() == BEFORE


def test_a_mesh_stands_before_all_others_and_restores_them(conf: Path) -> None:
    dns.apply_dns(MESH)
    assert lines(conf) == [
        "search corp.example shore.internal",
        "nameserver 100.64.0.1",
        "nameserver 9.9.9.9",
        "nameserver 149.112.112.112",
        "options timeout:1",
        "options edns0",
    ]
    assert dns.servers_below("shore0") == ("9.9.9.9", "149.112.112.112")
    dns.remove_dns("shore0")
    assert conf.read_text() == BEFORE
    assert not (conf.parent / "resolv.json").exists()


def test_how_soon_people_want_the_next_resolver_stays(conf: Path) -> None:
    conf.write_text("nameserver 9.9.9.9\noptions timeout:3\n")
    dns.apply_dns(MESH)
    assert [line for line in lines(conf) if "options" in line] == ["options timeout:3"]


@pytest.mark.parametrize("order", [(MESH, FILE), (FILE, MESH)])
@pytest.mark.parametrize("leave", [("wg0", "shore0"), ("shore0", "wg0")])
def test_mesh_and_file_come_and_go_in_any_order(
    conf: Path, order: tuple[HostPlan, ...], leave: tuple[str, ...]
) -> None:
    for plan in order:
        dns.apply_dns(plan)
    assert "nameserver 100.64.0.1\nnameserver 10.8.0.2\n" in conf.read_text()
    assert "9.9.9.9" not in conf.read_text()
    assert "search office.example shore.internal\n" in conf.read_text()
    assert dns.servers_below("shore0") == ("10.8.0.2",)
    dns.remove_dns(leave[0])
    assert ("nameserver 100.64.0.1" in conf.read_text()) is (leave[0] == "wg0")
    dns.remove_dns(leave[1])
    assert conf.read_text() == BEFORE


def test_of_two_meshes_each_asks_only_what_is_below_it(conf: Path) -> None:
    dns.apply_dns(MESH)
    dns.apply_dns(OTHER_MESH)
    assert dns.servers_below("shore1") == ("100.64.0.1", "9.9.9.9", "149.112.112.112")
    assert dns.servers_below("shore0") == ("9.9.9.9", "149.112.112.112")


def test_what_somebody_else_writes_is_what_stands_below_from_then_on(conf: Path) -> None:
    dns.apply_dns(MESH)
    assert not dns.hold_dns("shore0")
    conf.write_text("nameserver 192.0.2.53\n")
    assert not dns.hold_dns("wg0"), "a tunnel of a file leaves it alone"
    assert dns.hold_dns("shore0")
    assert "nameserver 100.64.0.1\nnameserver 192.0.2.53\n" in conf.read_text()
    assert dns.servers_below("shore0") == ("192.0.2.53",)
    dns.remove_dns("shore0")
    assert conf.read_text() == "nameserver 192.0.2.53\n"
    assert not dns.hold_dns("shore0"), "who has left does not come back"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("plan", [MESH, FILE])
def test_killed_right_after_resolv_conf_is_written_it_is_restored_later(
    conf: Path, monkeypatch: pytest.MonkeyPatch, plan: HostPlan
) -> None:
    class Last(type(conf)):  # type: ignore[misc]
        def write_text(self, *words: str) -> int:
            super().write_text(*words)
            raise Killed

    monkeypatch.setattr(dns, "RESOLV_CONF", Last(conf))
    with pytest.raises(Killed):
        dns.apply_dns(plan)
    monkeypatch.setattr(dns, "RESOLV_CONF", conf)
    dns.apply_dns(plan)
    assert dns.servers_before() == ("9.9.9.9", "149.112.112.112")
    dns.remove_dns(plan.device)
    assert conf.read_text() == BEFORE


@pytest.mark.parametrize("plan", [MESH, FILE])
def test_killed_right_before_resolv_conf_is_written_it_comes_later(
    conf: Path, monkeypatch: pytest.MonkeyPatch, plan: HostPlan
) -> None:
    class Never(type(conf)):  # type: ignore[misc]
        def write_text(self, *_words: str) -> int:
            raise Killed

    monkeypatch.setattr(dns, "RESOLV_CONF", Never(conf))
    with pytest.raises(Killed):
        dns.apply_dns(plan)
    monkeypatch.setattr(dns, "RESOLV_CONF", conf)
    dns.apply_dns(plan)
    assert conf.read_text().startswith("# Written by Shore")
    dns.remove_dns(plan.device)
    assert conf.read_text() == BEFORE


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("order", [(MESH, FILE), (FILE, MESH)])
def test_killed_while_one_of_two_comes_or_leaves_what_was_before_is_not_forgotten(
    conf: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[HostPlan, HostPlan],
    written: bool,
    leaves: bool,
) -> None:
    class Dying(type(conf)):  # type: ignore[misc]
        def write_text(self, *words: str) -> int:
            if written:
                super().write_text(*words)
            raise Killed

    first, second = order
    dns.apply_dns(first)
    if leaves:
        dns.apply_dns(second)
    monkeypatch.setattr(dns, "RESOLV_CONF", Dying(conf))
    with pytest.raises(Killed):
        dns.remove_dns(first.device) if leaves else dns.apply_dns(second)
    monkeypatch.setattr(dns, "RESOLV_CONF", conf)
    dns.apply_dns(second)
    assert dns.servers_before() == ("9.9.9.9", "149.112.112.112")
    expected = second.dns_servers or (second.names.server if second.names else "",)
    assert f"nameserver {expected[0]}\n" in conf.read_text()
    dns.remove_dns(first.device)
    dns.remove_dns(second.device)
    assert conf.read_text() == BEFORE


@pytest.mark.parametrize("linked", [True, False])
def test_systemd_resolved_is_told_which_domains_are_ours(
    conf: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    said: list[str] = []

    def run(words: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        said.append(" ".join(words))
        return subprocess.CompletedProcess(words, 0, "", "")

    stub = conf.parent / "resolve" / "stub-resolv.conf"
    stub.parent.mkdir()
    stub.write_text("nameserver 127.0.0.53\n")
    conf.unlink()
    if linked:
        conf.symlink_to(stub)
    else:
        conf.write_text("nameserver 127.0.0.53\n")
    monkeypatch.setattr(subprocess, "run", run)
    names = SplitNames("100.64.0.1", "shore.internal", ("shore.internal", "64.100.in-addr.arpa"))
    dns.apply_dns(HostPlan("shore0", (), 1420, (), names=names))
    assert said == [
        "resolvectl dns shore0 100.64.0.1",
        "resolvectl domain shore0 shore.internal ~64.100.in-addr.arpa",
        "resolvectl default-route shore0 no",
        "resolvectl dnssec shore0 no",
        "resolvectl llmnr shore0 no",
        "resolvectl mdns shore0 no",
    ]
    assert conf.read_text() == "nameserver 127.0.0.53\n"
