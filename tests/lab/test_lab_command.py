"""`shore lab` as people run it: exit codes, one sentence, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab]
SHORE = [sys.executable, "-c", "from shore.cli.main import main; main()", "lab"]
PLAN = """
name = "short"
seconds = 2
settle_s = 0.5
[hosts.a]
[hosts.b]
[[links]]
name = "dsl"
ends = [{ host = "a", addresses = ["192.0.2.1/24"] }, { host = "b", addresses = ["192.0.2.2/24"] }]
impairment = { delay_ms = 10 }
[[pings]]
name = "p"
from = "a"
to = "192.0.2.2"
[[faults]]
at_s = 0.5
do = "black-hole"
link = "dsl"
for_s = 0.5
[[expect]]
ping = "p"
lost_least = 8
gap_most_s = 0.8
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHORE_LAB_DIR", str(tmp_path / "records"))
    file = tmp_path / "plan.toml"
    file.write_text(PLAN)
    return file


def shore_lab(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*SHORE, *words], capture_output=True, text=True, check=False, timeout=100)


def namespaces_of(pid: int) -> list[str]:
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith(f"shore-{pid}-")]


def test_a_run_that_holds_says_so_and_writes_its_page(plan: Path, tmp_path: Path) -> None:
    done = shore_lab("run", str(plan), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "held: network, p: silence <= 0.8 s" in done.stdout
    assert "self-check: 12 of 12 as asked" in done.stdout
    assert "black-hole on dsl" in (tmp_path / "out" / "report.html").read_text()
    again = shore_lab("report", str(tmp_path / "out"), "--json")
    assert json.loads(again.stdout)["runs"][0]["verdicts"][0]["right"] is True


def test_a_run_that_fails_keeps_what_explains_it(plan: Path, tmp_path: Path) -> None:
    plan.write_text(PLAN.replace("gap_most_s = 0.8", "gap_most_s = 0.1"))
    done = shore_lab("run", str(plan), "--no-check")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "shore lab: something was not as expected"
    kept = Path(next(line for line in done.stdout.splitlines() if line.startswith("kept: "))[6:])
    assert {file.name for file in kept.iterdir()} == {"dsl.pcapng", "diary.jsonl"}
    assert "black-hole on dsl" in (kept / "diary.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "/nowhere.toml"], 2, "/nowhere.toml cannot be read: No such file or directory"),
        (["report", "/nowhere"], 1, "/nowhere has no report.json"),
        (["report"], 1, "there is no report in "),
        (["shell", "a"], 1, "no laboratory runs: `shore lab run FILE --stay` keeps one open"),
        (["dig"], 2, "No such command 'dig'."),
    ],
)
def test_what_is_wrong_is_one_sentence_and_a_code(plan: Path, words: list[str], code: int, said: str) -> None:
    done = shore_lab(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"shore lab: {said}")
    assert done.stderr.count("\n") == 1


def test_a_wrong_plan_is_one_sentence(plan: Path) -> None:
    plan.write_text(PLAN.replace("black-hole", "hole"))
    done = shore_lab("run", str(plan))
    assert (done.returncode, done.stderr) == (
        2,
        f"shore lab: {plan}: there is no fault `hole`: see `shore lab faults`\n",
    )


def test_the_catalogue_is_listed() -> None:
    assert "black-hole" in shore_lab("faults").stdout
    named = {fault["name"] for fault in json.loads(shore_lab("faults", "--json").stdout)}
    assert {"black-hole", "data-dropped", "nat-reboot", "unplug"} <= named


def staying(plan: Path) -> "subprocess.Popen[str]":
    """Interrupts are ignored at its start, as a shell has it for what it puts into the background."""
    words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *SHORE, "run", str(plan), "--stay"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "stands with a, b" in process.stdout.readline()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_laboratory_leaves_nothing(plan: Path, number: signal.Signals) -> None:
    with staying(plan) as process:
        assert len(namespaces_of(process.pid)) == 2
        process.send_signal(number)
        assert process.wait(20) == 130
    assert namespaces_of(process.pid) == []


def test_a_killed_laboratory_is_removed_by_the_next(plan: Path) -> None:
    with staying(plan) as process:
        process.kill()
        process.wait(20)
        wires = time.monotonic() + 5
        while any("eth0" in ip_link(name) for name in namespaces_of(process.pid)):
            assert time.monotonic() < wires, "a wire outlived its laboratory"
            time.sleep(0.05)
    with staying(plan) as other:
        assert namespaces_of(process.pid) == []
        other.send_signal(signal.SIGINT)
        other.wait(20)


def ip_link(namespace: str) -> str:
    return subprocess.run(
        ["ip", "-n", namespace, "-o", "link"], capture_output=True, text=True, check=True
    ).stdout


def test_a_shell_opens_in_a_host_of_a_running_laboratory(plan: Path) -> None:
    with staying(plan) as process:
        environment = {**os.environ, "SHELL": "/bin/sh"}
        words = {"input": "ip -o -4 address show eth0\n", "env": environment}
        inside = subprocess.run([*SHORE, "shell", "b"], capture_output=True, text=True, check=False, **words)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert "192.0.2.2/24" in inside.stdout


ORDINARY_USER = (
    "import os, sys; os.geteuid = lambda: 1000; from shore.lab.__main__ import start; start(sys.argv[1:])"
)


def test_without_root_it_enters_a_user_namespace_by_itself(plan: Path, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-Urnm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this system allows no user namespaces")
    words = [
        sys.executable,
        "-c",
        ORDINARY_USER,
        "run",
        str(plan),
        "--no-check",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "held: network, p: silence <= 0.8 s" in done.stdout


@pytest.mark.slow
def test_candidates_go_through_the_same_plan_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORE_LAB_DIR", str(tmp_path))
    text = (Path(__file__).parents[2] / "examples" / "lab" / "home-nat.toml").read_text()
    file = tmp_path / "plan.toml"
    file.write_text(text.replace(', "boringtun-cli"', ""))
    done = shore_lab("run", str(file), "--json")
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [run["candidate"] for run in runs] == ["shore", "wireguard-go"]
    assert [mark["called"] for mark in runs[0]["marks"]] == ["nat-reboot on home", "end-killed on b"]
    lost = [sum(1 for _, rtt in run["timelines"][0]["pings"]["sent"] if rtt is None) for run in runs]
    assert 10 < lost[0] < lost[1]


@pytest.mark.slow
def test_a_tunnel_that_never_comes_up_is_one_sentence(plan: Path) -> None:
    tunnel = '[[tunnels]]\na = "a"\nb = "b"\nendpoint = "192.0.2.9"\ncandidates = ["wireguard-go"]\n'
    plan.write_text(PLAN + tunnel)
    done = shore_lab("run", str(plan), "--no-check")
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("shore lab: wireguard-go at a does not reach 10.8.0.2 at b (kept: ")
    assert "Traceback" not in done.stderr


def test_a_missing_tool_is_named_with_its_package(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(plan.parent))
    done = shore_lab("run", str(plan))
    said = "conntrack iproute2 iputils-ping nftables procps util-linux"
    assert (done.returncode, done.stderr) == (1, f"shore lab: some tools are missing: apt install {said}\n")


def test_a_frozen_stock_end_goes_on_afterwards(plan: Path) -> None:
    tunnel = '[[tunnels]]\na = "a"\nb = "b"\nendpoint = "192.0.2.2"\ncandidates = ["wireguard-go"]\n'
    freeze = 'at_s = 0.5\ndo = "end-frozen"\nhost = "b"\nfor_s = 0.7\n'
    text = PLAN.replace('at_s = 0.5\ndo = "black-hole"\nlink = "dsl"\nfor_s = 0.5\n', freeze)
    expect = 'gap_most_s = 1.2\ncandidates = ["wireguard-go"]\n'
    plan.write_text(
        text.replace('to = "192.0.2.2"', 'to = "10.8.0.2"').replace("gap_most_s = 0.8\n", expect) + tunnel
    )
    done = shore_lab("run", str(plan), "--no-check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held: wireguard-go, p: lost >= 8" in done.stdout
