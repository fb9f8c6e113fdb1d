"""wireguard-go's own tests/netns.sh, unchanged, on `shore-wg`: it gets as far as wireguard-go or farther.

How far that is depends on the machine: some steps race with duplicate address detection, others want modules.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shore.lab.ends import program
from shore.lab.net import LabFailed

pytestmark = [pytest.mark.lab, pytest.mark.slow]
TOOLS = ("go", "ncat", "iptables", "iperf3", "jq")
STEP = re.compile(r"^(?:\x1b\[[0-9;]*m)*\[\+\]", re.MULTILINE)


def script() -> Path:
    told = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True)
    cache = Path(told.stdout.strip())
    found = sorted(cache.glob("golang.zx2c4.com/wireguard@*/tests/netns.sh"))
    if not found:
        pytest.skip("LAB SKIPPED: wireguard-go's module is not here: scripts/peers wireguard")
    return found[-1]


def steps(path: Path, tested: str, log: Path) -> int:
    """How many steps of the script were begun."""
    words = ["bash", str(path), tested]
    # Its sleeps are reads that time out, so its stdin must stay open and silent.
    with (
        log.open("wb") as output,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=output, stderr=output) as run,
    ):
        run.wait(500)
    return len(STEP.findall(log.read_text(errors="replace")))


@pytest.mark.timeout(900)
def test_it_gets_as_far_as_wireguard_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"LAB SKIPPED: missing: {', '.join(missing)}")
    try:
        rival = program("wireguard")
    except LabFailed as error:
        pytest.skip(f"LAB SKIPPED: {error}")
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    ours = tmp_path / "shore-wg"
    ours.write_text(f"#!{sys.executable}\nfrom shore.cli.shore_wg import main\nmain()\n")
    ours.chmod(0o755)
    theirs = steps(script(), rival, tmp_path / "rival.log")
    shores = steps(script(), str(ours), tmp_path / "ours.log")
    print(f"wireguard-go began {theirs} steps, shore-wg {shores}")
    assert shores >= theirs
