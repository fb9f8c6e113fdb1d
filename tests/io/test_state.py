"""What outlives a reboot."""

import os
from pathlib import Path

import pytest

from shore.io import state
from shore.model.links import Lifetime

KEY, OTHER = b"\1" * 32, b"\2" * 32


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def test_what_is_written_is_read_again_for_that_key_alone() -> None:
    assert state.read_stamp(KEY) == 0.0
    state.write_stamp(KEY, 12.5)
    state.write_stamp(KEY, 13.5)
    assert (state.read_stamp(KEY), state.read_stamp(OTHER)) == (13.5, 0.0)


def test_it_is_for_its_owner_alone_and_nothing_is_left_beside_it(place: Path) -> None:
    os.umask(0o022)
    state.write_stamp(KEY, 1.0)
    assert [path.stat().st_mode & 0o777 for path in (place, place / "stamps")] == [0o700, 0o700]
    (file,) = (place / "stamps").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == (KEY.hex(), 0o600)


@pytest.mark.parametrize("torn", [b"", b"{", b'{"sent_until": "later"}', b"\xff\xfe"])
def test_a_torn_file_is_as_none(place: Path, torn: bytes) -> None:
    state.write_stamp(KEY, 1.0)
    (place / "stamps" / KEY.hex()).write_bytes(torn)
    assert state.read_stamp(KEY) == 0.0


def test_a_directory_that_cannot_be_is_an_error_to_write_and_none_to_read(place: Path) -> None:
    place.write_text("a file")
    assert state.read_stamp(KEY) == 0.0
    with pytest.raises(OSError, match="state"):
        state.write_stamp(KEY, 1.0)


def test_lifetimes_are_kept_by_network_the_newest_sixty_four(place: Path) -> None:
    assert state.read_lifetimes() == ()
    for number in range(70):
        state.write_lifetime(Lifetime(f"net {number}", 20))
    state.write_lifetime(Lifetime("net 30", 110, 120))
    kept = state.read_lifetimes()
    assert (len(kept), kept[0].network, kept[-1]) == (64, "net 6", Lifetime("net 30", 110, 120))
    assert [path.name for path in place.iterdir()] == ["lifetimes"]


@pytest.mark.parametrize("torn", [b"", b"[", b'[{"network": 5}]', b"\xff\xfe"])
def test_torn_lifetimes_are_as_none_and_are_written_anew(place: Path, torn: bytes) -> None:
    state.write_lifetime(Lifetime("net", 20))
    (place / "lifetimes").write_bytes(torn)
    assert state.read_lifetimes() == ()
    state.write_lifetime(Lifetime("net", 30))
    assert state.read_lifetimes() == (Lifetime("net", 30),)
