"""The log: a line for each announcement, and no more than two files."""

import json
from pathlib import Path

import pytest

from shore.core.actions import Announce
from shore.node import journal
from shore.node.journal import Journal


def test_each_announcement_is_a_line(tmp_path: Path) -> None:
    log = Journal(tmp_path / "log.jsonl")
    log.announce(Announce("down", "asked for"))
    log.announce(Announce("peer unreachable", "no answer for 32 s", b"\1" * 32))
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["what"], first["why"], first["peer"]) == ("down", "asked for", None)
    assert second["peer"].endswith("=")


def test_it_never_grows_beyond_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LARGEST", 1000)
    log = Journal(tmp_path / "log.jsonl")
    for _ in range(100):
        log.announce(Announce("x" * 50, "y" * 50))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2500


def test_a_disk_that_is_gone_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    Journal(tmp_path / "nowhere" / "log.jsonl").announce(Announce("down", "asked for"))
