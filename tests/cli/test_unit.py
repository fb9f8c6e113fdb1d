"""The unit file: what systemd itself says of it, and that it runs the `shore` that printed it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from shore.cli.main import main
from shore.cli.unit import unit_text

SHORE = Path(sys.executable).with_name("shore")


def test_the_unit_runs_the_command_that_printed_it() -> None:
    printed = CliRunner().invoke(main, ["unit"]).output
    assert f"ExecStart={SHORE} up %i --foreground\n" in printed
    assert f"ExecReload={SHORE} reload %i\n" in printed
    assert "/usr/bin/shore" not in printed


@pytest.mark.parametrize("program", ["server", "relay"])
def test_a_networks_programs_have_units_too(program: str) -> None:
    printed = CliRunner().invoke(main, ["unit", program]).output
    assert f"ExecStart={SHORE} server start --foreground {program}\n" in printed
    assert "PROGRAM" not in printed
    assert "/usr/bin/shore" not in printed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize(
    ("words", "name"),
    [([], "shore@wg0"), (["server"], "shore-server"), (["relay"], "shore-relay")],
    ids=["tunnel", "server", "relay"],
)
def test_systemd_finds_nothing_to_say_about_the_unit(tmp_path: Path, words: list[str], name: str) -> None:
    path = tmp_path / f"{name}.service"
    path.write_text(CliRunner().invoke(main, ["unit", *words]).output)
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_unit_of_a_further_relay_knows_of_no_server() -> None:
    text = unit_text("relay", further=True)
    assert "ConditionPathExists=/var/lib/shore/relay/relay.json\n" in text
    assert f"ExecStart={SHORE} relay start --foreground\n" in text
    assert "`shore relay stop` ends it for now" in text
    assert "server" not in text
