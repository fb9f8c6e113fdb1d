"""The log: a line for each announcement, and no more than two files."""

import json
from pathlib import Path

import pytest

from shore.core.actions import Announce
from shore.io.history import History
from shore.model.history import Change
from shore.node import journal
from shore.node.journal import Journal


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))


def test_each_announcement_is_a_line(tmp_path: Path) -> None:
    log = Journal(tmp_path / "log.jsonl", History("wg0"))
    log.announce(Announce("down", "asked for"))
    log.announce(Announce("peer unreachable", "no answer for 32 s", b"\1" * 32))
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["what"], first["why"], first["peer"]) == ("down", "asked for", None)
    assert second["peer"].endswith("=")


def test_it_never_grows_beyond_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LARGEST", 1000)
    log = Journal(tmp_path / "log.jsonl", History("wg0"))
    for _ in range(100):
        log.announce(Announce("x" * 50, "y" * 50))
    assert sum(file.stat().st_size for file in tmp_path.glob("log.*")) < 2500


def test_a_disk_that_is_gone_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    Journal(tmp_path / "nowhere" / "log.jsonl", History("wg0")).announce(Announce("down", "asked for"))


def test_what_is_announced_of_a_peer_is_kept_in_its_history(tmp_path: Path) -> None:
    log = Journal(tmp_path / "log.jsonl", History("wg0"))
    log.announce(Announce("path a", "no answer any more from b", b"\1" * 32, {"to_rtt_ms": 20.0}))
    (kept,) = History("wg0").read(b"\1" * 32)
    assert kept == Change(kept.at, "path a", "no answer any more from b", {"to_rtt_ms": 20.0})
