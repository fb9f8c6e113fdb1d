"""Whose file it is decides whether it is read."""

from pathlib import Path

import pytest

from shore.io.conffile import Unreadable, find, read
from shore.model.keys import key_text

TEXT = f"[Interface]\nPrivateKey = {key_text(b'1' * 32)}\n"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "wg7.conf"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def test_a_private_file_is_read_and_named_after_itself(conf: Path) -> None:
    config, warnings = read(conf)
    assert (config.name, config.source, warnings) == ("wg7", str(conf), [])


def test_a_file_that_everybody_reads_is_warned_about(conf: Path) -> None:
    conf.chmod(0o644)
    assert "chmod 600" in read(conf)[1][0]


def test_a_file_or_directory_that_others_may_write_is_refused(conf: Path) -> None:
    conf.chmod(0o602)
    with pytest.raises(Unreadable, match="chmod go-w"):
        read(conf)
    conf.chmod(0o600)
    conf.parent.chmod(0o777)
    with pytest.raises(Unreadable, match="the directory"):
        read(conf)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (4 << 20) + b"xx"])
def test_what_is_no_text_is_one_sentence(conf: Path, content: bytes) -> None:
    conf.write_bytes(content)
    with pytest.raises(Unreadable):
        read(conf)


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no such file"):
        read(tmp_path / "none.conf")
    with pytest.raises(Unreadable, match="is a directory"):
        read(tmp_path)
    with pytest.raises(Unreadable, match="no /etc/wireguard/nowhere"):
        find("nowhere")
