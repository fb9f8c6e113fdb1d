"""What is remembered of a peer, and what is lost by whom."""

import errno
import os
from pathlib import Path

import pytest

from shore.io import history
from shore.io.history import History
from shore.model.history import Change

PEER, OTHER = b"\1" * 32, b"\2" * 32


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "history" / "wg0"


def changes(count: int) -> list[Change]:
    return [Change(float(n), f"change {n}", "a test", {"from_rtt_ms": float(n)}) for n in range(count)]


def test_a_later_brain_finds_what_an_earlier_one_kept_and_each_peer_its_own(directory: Path) -> None:
    first = History("wg0")
    first.keep(PEER, Change(1.0, "path a", "no answer any more from b", {"to_rtt_ms": 20.0}))
    first.keep(None, Change(2.0, "data plane replaced", "it exited"))
    second = History("wg0")
    second.keep(PEER, Change(3.0, "path b", "better than a"))
    second.keep(OTHER, Change(4.0, "path c", "better than d"))
    assert [change.what for change in History("wg0").read(PEER)] == [
        "path a",
        "data plane replaced",
        "path b",
    ]
    assert second.read(PEER)[0].numbers == {"to_rtt_ms": 20.0}
    assert second.peers() == [PEER, OTHER]
    assert History("wg1").read(PEER) == ()
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o600}


def test_the_last_thousand_are_kept_and_a_file_never_has_more_than_twice_as_many(directory: Path) -> None:
    kept = History("wg0")
    most = 0
    for change in changes(4500):
        kept.keep(PEER, change)
        if change.at % 500 == 499:
            most = max(most, len((directory / f"{PEER.hex()}.jsonl").read_bytes().splitlines()))
    assert most <= 2 * history.KEPT
    assert kept.read(PEER) == tuple(changes(4500)[-1000:])


def test_a_disk_that_is_full_loses_lines_and_nothing_else(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = History("wg0")
    kept.keep(PEER, changes(1)[0])
    write = history._write

    def cut_short(file: Path, text: bytes, how: int) -> None:
        write(file, text[:9], how)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(history, "_write", cut_short)
    kept.keep(PEER, changes(2)[1])
    monkeypatch.setattr(history, "_write", write)
    kept.keep(PEER, changes(3)[2])
    assert [change.at for change in kept.read(PEER)] == [0.0, 2.0]


def test_a_directory_that_cannot_be_made_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    History("wg0").keep(PEER, changes(1)[0])


def test_what_is_kept_of_a_removed_peer_goes_after_a_month_and_that_of_others_stays(directory: Path) -> None:
    kept = History("wg0")
    for public_key in (PEER, OTHER, None):
        kept.keep(public_key, changes(1)[0])
    written = (directory / f"{OTHER.hex()}.jsonl").stat().st_mtime
    kept.prune([PEER], written + history.REMOVED_KEPT_S - 60)
    assert kept.peers() == [PEER, OTHER]
    kept.prune([PEER], written + history.REMOVED_KEPT_S + 60)
    assert kept.peers() == [PEER]
    assert kept.read(PEER) == (*changes(1), *changes(1))
    kept.keep(OTHER, changes(2)[1])
    assert [change.at for change in kept.read(OTHER)] == [0.0, 1.0]
