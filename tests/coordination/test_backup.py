"""What was backed up while the server ran is the network again, in an epoch of its own."""

import asyncio
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.coordination.node import join, linked

from shore.coordination.backup import backup, restore
from shore.coordination.found import NotFounded, found, read_founded, read_key
from shore.coordination.mesh import Mesh
from shore.coordination.repository import Repository
from shore.wire import signing

SHORE = [sys.executable, "-c", "from shore.cli.main import main; main()", "server"]


async def test_a_network_is_backed_up_while_its_server_runs(server: Path, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "kept.tar.gz", tmp_path / "elsewhere"
    async with linked(server) as one:
        await join(one, server, "one")
        done = await asyncio.to_thread(subprocess.run, [*SHORE, "backup", str(file)], timeout=60, check=False)
    assert done.returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    elsewhere.mkdir(mode=0o700)
    assert restore(elsewhere, file) == 2
    assert elsewhere.stat().st_mode & 0o777 == 0o711
    for there in ("server/netmap.key", "server/root.key", "relay/tls.key", "relay/machine.key"):
        assert (elsewhere / there).read_bytes() == (server / there).read_bytes()
        assert (elsewhere / there).stat().st_mode & 0o777 == 0o600
    repository = Repository(f"sqlite+aiosqlite:///{elsewhere}/server/server.db")
    mesh = Mesh(read_founded(elsewhere), read_key(elsewhere / "server" / "netmap.key"), repository)
    await mesh.load(1.0)
    assert [member.name for member in mesh.netmaps.members] == ["one"]
    assert mesh.status().epoch == 2
    await repository.close()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    file = tmp_path / "kept"
    backup(tmp_path, file)
    with pytest.raises(FileExistsError):
        backup(tmp_path, file)
    with pytest.raises(NotFounded, match="is there already"):
        restore(tmp_path, file)
    refused = subprocess.run(
        [sys.executable, "-m", "shore.coordination", "backup", "--state", str(tmp_path), str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (refused.returncode, refused.stderr) == (1, f"shore: {file}: File exists\n")


def test_what_is_no_backup_makes_nothing(tmp_path: Path) -> None:
    empty, noise = tmp_path / "empty.tar", tmp_path / "noise"
    tarfile.open(empty, "w").close()
    noise.write_bytes(b"no archive")
    for file in (empty, noise):
        with pytest.raises(NotFounded):
            restore(tmp_path / "new", file)
        assert list((tmp_path / "new").iterdir()) == []


def test_an_archive_writes_nowhere_else(tmp_path: Path) -> None:
    found(tmp_path / "old", "home", ("192.0.2.1",), 443, 3478)
    file, evil = tmp_path / "kept", tmp_path / "evil.tar"
    backup(tmp_path / "old", file)
    with tarfile.open(file) as kept, tarfile.open(evil, "w") as archive:
        for entry in kept:
            archive.addfile(entry, kept.extractfile(entry))
        for name in ("../outside", "server/../../outside", "/tmp/shore-outside", "server/deep/file"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"x"))
        link = tarfile.TarInfo("server/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert restore(tmp_path / "new", evil) == 2
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "new" / "server" / "link").exists()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["relay", "server"]
    key = read_key(tmp_path / "new" / "server" / "root.key")
    assert isinstance(key, Ed25519PrivateKey)
    assert signing.public_of(key) == read_founded(tmp_path / "new").root
