"""The unit file: what systemd itself says of it, and that it runs the `shore` that printed it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from shore.cli.main import main

SHORE = Path(sys.executable).with_name("shore")


def test_the_unit_runs_the_command_that_printed_it() -> None:
    printed = CliRunner().invoke(main, ["unit"]).output
    assert f"ExecStart={SHORE} up %i --foreground\n" in printed
    assert f"ExecReload={SHORE} reload %i\n" in printed
    assert "/usr/bin/shore" not in printed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_finds_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "shore@wg0.service"
    path.write_text(CliRunner().invoke(main, ["unit"]).output)
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
