"""What the commands of a mesh say without one."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shore.cli import mesh, programs
from shore.cli.main import main
from shore.core.netmap import LABEL
from shore.wire.token import Token, token_text

TOKEN = token_text(Token(("127.0.0.1:1",), bytes(32), bytes(32)))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))


def shore(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, words, input=stdin)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("up",), 2, "this machine has joined no network: `shore up --join TOKEN` joins one"),
        (("down",), 2, "this machine has joined no network: name the tunnel"),
        (("ip",), 3, "this machine has joined no network"),
        (("logout",), 1, "this machine has joined no network"),
        (("up", "--join", "shore1_x"), 2, "this join token is damaged"),
        (("up", "--join", "wg0.conf"), 2, "a join token begins with shore1_"),
        (("up", "wg0.conf", "--join", TOKEN), 2, "without CONF"),
        (("up", "--join", TOKEN, "--join-file", "x"), 2, "without CONF"),
        (("up", "--join-file", "/nowhere/token"), 1, "/nowhere/token: no such file"),
        (("up", "--join", TOKEN, "--name", "My Laptop"), 2, "`My Laptop` is no name for a node"),
        (("up", "--join", TOKEN, "--proxy", "socks5://a:1"), 2, "should be like http://proxy.example:3128"),
        (("up", "--join", TOKEN, "--timeout", "soon"), 2, "`soon` is no time"),
    ],
)
def test_a_mistake_is_one_sentence(words: tuple[str, ...], code: int, said: str) -> None:
    result = shore(*words)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert said in result.stderr


def test_a_join_that_finds_no_server_leaves_nothing(tmp_path: Path) -> None:
    result = shore("up", "--join", "-", "--timeout", "1s", stdin=f"  {TOKEN}\n")
    assert result.exit_code == 124
    assert "see that it runs and that its port is open" in result.stderr
    assert not (tmp_path / "state" / "node").exists()


def test_a_machine_has_a_name_that_a_network_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for written, name in (("Big_Mac.local", "big-mac"), ("", "node"), ("-", "node"), ("x" * 70, "x" * 63)):
        monkeypatch.setattr(os, "uname", lambda written=written: os.uname_result(("", written, "", "", "")))
        assert mesh.default_name() == name
        assert LABEL.match(name)


def test_all_goes_down_where_the_node_is_down_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "interface", lambda: "shore0")
    monkeypatch.setattr(programs, "running_programs", lambda: ["server"])
    monkeypatch.setattr(programs, "stop_programs", lambda: ["server"])
    result = shore("down", "--all")
    assert (result.exit_code, result.stdout) == (0, "the server is stopped\n")
    assert shore("down").exit_code == 3


def test_everything_about_the_server_is_one_command() -> None:
    said = shore("server", "--help").stdout
    assert all(f"\n  {word} " in said for word in ("start", "stop", "status", "keys", "backup", "restore"))
