"""What is enabled at boot, by a systemctl that only listens."""

import os
from pathlib import Path

import pytest

from shore.cli import boot


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where units are written."""
    for name in ("SHORE_STATE_DIR", "SHORE_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path / "own"
    place.mkdir()
    monkeypatch.setattr(boot, "RUNS", tmp_path)
    monkeypatch.setattr(boot, "OWN", place)
    monkeypatch.setattr(boot, "PACKAGED", (tmp_path / "packaged",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return place


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the words that systemctl was given, a line each; it fails if told to `fail`."""
    heard = tmp_path / "heard"
    heard.touch()
    script = tmp_path / "systemctl"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {heard}\n[ ! -e {tmp_path}/fail ] || {{ echo no >&2; exit 1; }}\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return heard


def test_units_are_written_and_enabled(own: Path, said: Path) -> None:
    assert boot.enable([boot.tunnel_unit("shore0"), *boot.PROGRAMS]) is None
    assert said.read_text() == "daemon-reload\nenable --quiet shore@shore0 shore-server shore-relay\n"
    assert "up %i --foreground" in (own / "shore@.service").read_text()
    for program in ("server", "relay"):
        assert f"--foreground {program}\n" in (own / f"shore-{program}.service").read_text()
    boot.disable([boot.tunnel_unit("shore0")])
    assert said.read_text().endswith("disable --quiet shore@shore0\n")


def test_a_unit_that_is_there_is_taken_as_it_is(own: Path, said: Path, tmp_path: Path) -> None:
    (own / "shore@.service").write_text("somebody's")
    (tmp_path / "packaged").mkdir()
    (tmp_path / "packaged" / "shore-relay.service").touch()
    assert boot.enable([boot.tunnel_unit("shore0"), "shore-relay"]) is None
    assert [(file.name, file.read_text()) for file in own.iterdir()] == [("shore@.service", "somebody's")]
    assert said.read_text().endswith("enable --quiet shore@shore0 shore-relay\n")


def test_what_went_wrong_is_one_sentence(own: Path, said: Path, tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    assert boot.enable(["shore-relay"]) == "shore-relay will not come back at boot: no"
    assert own.exists()
    assert said.exists()


@pytest.mark.parametrize("name", ["SHORE_STATE_DIR", "SHORE_RUNTIME_DIR"])
def test_nodes_of_other_directories_are_left_to_who_made_them(
    own: Path, said: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/nowhere")
    assert boot.enable(["shore-relay"]) is None
    assert (list(own.iterdir()), said.read_text()) == ([], "")
