"""The `shore` command without a tunnel: every mistake is one sentence and an exit code."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shore.cli.main import main
from shore.cli.shore_wg import main as shore_wg
from shore.model.keys import key_text

CONF = f"[Interface]\nPrivateKey = {key_text(b'1' * 32)}\n[Peer]\nPublicKey = {key_text(b'2' * 32)}\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "wg0.conf"
    path.write_text(CONF)
    path.chmod(0o600)
    return path


def shore(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, words, input=stdin)


def test_a_right_file_is_said_to_be_right(conf: Path) -> None:
    result = shore("check", str(conf))
    assert (result.exit_code, result.output) == (0, f"{conf}: right (1 peers, 0 prefixes)\n")


@pytest.mark.parametrize("command", ["check", "up", "reload"])
def test_a_wrong_file_is_named_with_its_line(conf: Path, command: str) -> None:
    conf.write_text(CONF + "AllowedIP = 10.0.0.0/24\n")
    result = shore(command, str(conf))
    assert result.exit_code == 1
    assert result.stderr == f"shore: {conf}:5: [Peer] has no key `AllowedIP`: did you mean AllowedIPs?\n"


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = shore("up", str(tmp_path / "none.conf"))
    assert (result.exit_code, result.stderr) == (
        1,
        f"shore: {tmp_path}/none.conf: no such file or directory\n",
    )


@pytest.mark.parametrize(
    "words",
    [("down", "wg0"), ("status", "wg0"), ("show", "wg0"), ("log", "wg0"), ("confirm", "wg0")],
    ids=lambda words: words[0],
)
def test_what_is_not_running_is_code_3(words: tuple[str, ...]) -> None:
    result = shore(*words)
    assert result.exit_code == 3
    assert "wg0 is not running" in result.stderr


@pytest.mark.parametrize(
    "words",
    [("fly",), ("up",), ("up", "wg0", "--quickly"), ("rekey",), ("ping", "x", "-c", "0"), ("pubkey",)],
    ids=" ".join,
)
def test_wrong_usage_is_code_2(words: tuple[str, ...]) -> None:
    assert shore(*words).exit_code == 2


def test_a_time_that_is_none_is_wrong_usage(conf: Path) -> None:
    result = shore("up", str(conf), "--confirm", "soon")
    assert (result.exit_code, result.stderr) == (2, "shore: `soon` is no time such as 60s, 5m or 1h\n")


def test_nothing_runs_and_that_is_no_failure() -> None:
    assert (shore("status").exit_code, shore("status").output) == (0, "no tunnel is up\n")
    assert shore("status", "--json").output == '{\n  "tunnels": [],\n  "schema": 1\n}\n'
    assert shore("cleanup").output == "nothing is left over\n"


def test_keys_are_those_of_wg() -> None:
    private = shore("genkey").output
    theirs = subprocess.run(
        ["wg", "pubkey"], input=private, capture_output=True, text=True, check=True
    ).stdout
    assert shore("pubkey", stdin=private).output == theirs
    assert len(shore("genpsk").output) == 45


def test_a_name_that_no_device_can_have_is_wrong_usage() -> None:
    result = CliRunner().invoke(shore_wg, ["a/b"])
    assert result.exit_code == 2
    assert "cannot name a device" in result.stderr


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_explains_itself(command: str) -> None:
    result = shore(command, "--help")
    assert result.exit_code == 0
    assert result.output.count("\n") > 4
