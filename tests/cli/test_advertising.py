"""`--advertise-routes`: what is kept, what is said, and what is refused."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shore.cli.main import main
from shore.io import identity as kept
from shore.io.host import behind
from shore.io.identity import Network


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))
    for version, parameter in ((4, "v4"), (6, "v6")):
        (tmp_path / parameter).write_text("1\n" if version == 4 else "0\n")
        monkeypatch.setitem(behind.FORWARDING, version, (tmp_path / parameter, f"net.{parameter}"))


@pytest.fixture
def _joined(_elsewhere: None) -> None:
    kept.draw(Network("shore0", "laptop", bytes(32), ("192.0.2.1:443",)))


def shore(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def advertised() -> tuple[str, ...]:
    known = kept.read()
    assert known is not None
    return known.network.advertised


@pytest.mark.usefixtures("_joined")
def test_what_is_advertised_is_kept_and_the_next_step_said() -> None:
    said = shore("set", "--advertise-routes", "10.1.0.0/24, fd77::/64")
    assert said.stdout == (
        "10.1.0.0/24, fd77::/64: on the server, `shore nodes routes laptop --approve 10.1.0.0/24,fd77::/64`\n"
    )
    assert said.stderr.startswith("note: nothing gets behind this machine: `sysctl -w net.v6=1`")
    assert said.stderr.count("note") == 1
    assert advertised() == ("10.1.0.0/24", "fd77::/64")
    assert shore("set", "--advertise-routes", "").output == "this machine leads to no network\n"
    assert advertised() == ()


@pytest.mark.usefixtures("_joined")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "--advertise-routes", "10.1.0.1/24"), "is no prefix such as"),
        (("set", "--advertise-routes", "100.64.0.0/16"), "holds addresses of the mesh itself"),
        (("set", "shore0", "--advertise-routes", "10.1.0.0/24"), "it is `shore set NAME"),
        (("set",), "it is `shore set NAME"),
        (("set", "shore0"), "it is `shore set NAME"),
        (("up", "wg0", "--advertise-routes", "10.1.0.0/24"), "a file says with AllowedIPs"),
        (("up", "--new", "--advertise-routes", "nowhere"), "is no prefix such as"),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(words: tuple[str, ...], said: str) -> None:
    result = shore(*words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
    assert advertised() == ()


def test_a_machine_of_no_network_leads_nowhere() -> None:
    result = shore("set", "--advertise-routes", "10.1.0.0/24")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
