"""`shore accept`: what it keeps, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.core.netmaps import MACHINE, TRUST, netmap, peer

from shore.cli.main import main
from shore.io import identity as kept
from shore.io.identity import Network


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def _joined(_elsewhere: None) -> None:
    kept.draw(Network("shore0", "laptop", bytes(32), ("192.0.2.1:443",)))


def accept(*words: str) -> Result:
    return CliRunner().invoke(main, ["accept", *words])


def accepted() -> list[str]:
    shown = json.loads(accept("--json").output)
    assert shown["schema"] == 1
    return list(shown["accepted"])


@pytest.mark.usefixtures("_joined")
def test_prefixes_are_accepted_once_kept_and_withdrawn() -> None:
    assert accept().output == "no prefix beyond the addresses of the network is accepted\n"
    assert accept("10.9.0.0/24", "fd00:9::/64").output == "10.9.0.0/24\nfd00:9::/64\n"
    accept("10.9.0.0/24")
    assert accepted() == ["10.9.0.0/24", "fd00:9::/64"]
    known = kept.read()
    assert known is not None
    assert known.network.accepted == ("10.9.0.0/24", "fd00:9::/64")
    accept("--withdraw", "10.9.0.0/24")
    assert accepted() == ["fd00:9::/64"]


@pytest.mark.usefixtures("_joined")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("10.9.0.1/24",), 2, "is no prefix"),
        (("100.96.0.0/11",), 2, "holds addresses of the mesh itself"),
        (("224.0.0.0/8",), 2, "never leaves the wire"),
        (("--withdraw", "10.9.0.0/24"), 1, "10.9.0.0/24 was not accepted"),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(words: tuple[str, ...], code: int, said: str) -> None:
    result = accept(*words)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert said in result.stderr
    assert accepted() == []


def test_what_peers_lead_to_and_nobody_accepted_here_is_listed(tmp_path: Path) -> None:
    network = Network("shore0", "hub", bytes(32), ("192.0.2.1:443",), TRUST.network, TRUST.root)
    kept.draw(network)
    (tmp_path / "state" / "node" / "machine.key").write_bytes(MACHINE.private_bytes_raw())
    kept.keep_netmap(netmap(peer(prefixes=("10.1.0.0/24", "0.0.0.0/0"))))
    lines = accept("10.0.0.0/8").output.splitlines()
    assert lines == [
        "10.0.0.0/8",
        "laptop leads to 0.0.0.0/0: `shore accept 0.0.0.0/0` sends it what is for there",
    ]
    offered = json.loads(accept("--json").output)["offered"]
    assert [(each["prefix"], each["peer"], each["accepted"]) for each in offered] == [
        ("10.1.0.0/24", "laptop", True),
        ("0.0.0.0/0", "laptop", False),
    ]


def test_without_a_network_there_is_nothing_to_accept() -> None:
    result = accept("10.9.0.0/24")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
