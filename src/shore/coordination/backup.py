"""Backups: one file with all that a network's server and first relay are, keys included (0600: guard it).

The database is copied as of one instant while the server runs, and is SQLite in the file, whatever it is. A
restore makes STATE/server and STATE/relay where neither is, and raises the epoch: netmaps that went out after
the backup was made have higher versions than the database knows of, and nodes take none that is lower within
an epoch.
"""

import asyncio
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from shore.coordination import moving
from shore.coordination.found import NotFounded, database_of, give_away, own_database, read_founded

PARTS = ("server", "relay")
DATABASE = "server.db"
NOT_KEPT = (DATABASE, "database")


def backup(state: Path, to: Path) -> None:
    """Write it to a file that is not there yet. Raises NotFounded, OSError."""
    read_founded(state)
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz") as archive,
            tempfile.TemporaryDirectory() as aside,
        ):
            for path in _files(state):
                archive.add(path, f"{path.parent.name}/{path.name}", recursive=False)
            archive.add(_snapshot(state, Path(aside)), f"server/{DATABASE}")
            file.flush()
    except BaseException:
        to.unlink()
        raise


def restore(state: Path, file: Path) -> int:
    """Make the network anew from a backup; the epoch that it begins. Raises NotFounded, OSError."""
    for part in PARTS:
        if (state / part).exists():
            raise NotFounded(f"{state / part} is there already: move it away first")
    making = state / ".restoring"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700, parents=True)
    try:
        with tarfile.open(file) as archive:
            archive.extractall(making, members=list(_known(archive)), filter="data")
        read_founded(making)
        epoch = _raise_epoch(making / "server" / DATABASE)
        give_away(making)
        state.chmod(0o711)
        for part in PARTS:
            (making / part).chmod(0o700)
            (making / part).rename(state / part)
    except (tarfile.TarError, EOFError, sqlite3.Error, KeyError):
        raise NotFounded(f"{file} is no backup of a network, or is damaged") from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return epoch


def _files(state: Path) -> Iterator[Path]:
    for part in PARTS:
        for path in sorted((state / part).iterdir()):
            if path.is_file() and not path.name.startswith(NOT_KEPT):
                yield path


def _snapshot(state: Path, aside: Path) -> Path:
    copy = aside / DATABASE
    if database_of(state) != own_database(state):
        asyncio.run(moving.copy(database_of(state), f"sqlite:///{copy}", lambda *_: None, alone=False))
        return copy
    there = (state / "server" / DATABASE).resolve().as_uri()
    with (
        closing(sqlite3.connect(f"{there}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(copy)) as kept,
    ):
        live.backup(kept)
    return copy


def _known(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Plain files of the two directories, for nobody else to read."""
    for entry in archive:
        part, _, name = entry.name.partition("/")
        if part in PARTS and name and "/" not in name and entry.isreg():
            entry.mode = 0o600
            yield entry


def _raise_epoch(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE networks SET epoch = epoch + 1, version = 0")
        (epoch,) = connection.execute("SELECT epoch FROM networks").fetchone()
        return int(epoch)
