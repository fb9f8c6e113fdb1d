"""A network moves from one database to another, whole or not at all."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select, text
from tests.coordination.postgresql import Cluster

from shore.cli.main import main
from shore.coordination.backup import backup, restore
from shore.coordination.database import Database, NoDatabase
from shore.coordination.found import database_of, found, own_database
from shore.coordination.migrations import HEAD
from shore.coordination.moving import copy, describe, use
from shore.coordination.repository import Invitation, Repository
from shore.coordination.schema import metadata, networks
from shore.io.programs import _imported_early

NOW = 1_000_000.0


def silent(_table: str, _done: int, _whole: int) -> None:
    pass


async def everything(url: str) -> dict[str, list[Any]]:
    database = Database(url)
    async with database.reading() as connection:
        held = {
            table.name: [dict(row) for row in (await connection.execute(select(table))).mappings()]
            for table in metadata.sorted_tables
        }
    await database.close()
    return held


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A network with members, tokens and a node that is out."""
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    repository = Repository(own_database(tmp_path))
    secret = await repository.invite(Invitation(tags=("tv",), reusable=True), "root", NOW)
    for number in range(3):
        await repository.enrol(bytes([number] * 32), bytes([number + 9] * 32), secret, "tv", NOW)
    await repository.roll.revoke("tv-2", "root", NOW)
    await repository.keyring.make("read", "", "root", NOW)
    await repository.close()
    return tmp_path


async def test_a_copy_is_all_of_it_and_new_rows_have_numbers_of_their_own(state: Path, empty: str) -> None:
    told: list[tuple[str, int, int]] = []
    await copy(database_of(state), empty, lambda *of: told.append(of))
    assert await everything(empty) == await everything(database_of(state))
    assert ("nodes", 4, 4) in told
    repository = Repository(empty)
    secret = await repository.invite(Invitation(), "root", NOW)
    row = await repository.enrol(b"k" * 32, b"n" * 32, secret, "new", NOW)
    assert row.id == 5
    await repository.close()


async def test_nothing_is_copied_over_what_is_there(state: Path, empty: str) -> None:
    await copy(database_of(state), empty, silent)
    before = await everything(empty)
    with pytest.raises(NoDatabase, match="is not empty"):
        await copy(database_of(state), empty, silent)
    assert await everything(empty) == before


async def test_nothing_is_copied_beside_what_is_not_ours(state: Path, empty: str) -> None:
    database = Database(empty)
    async with database.writing() as connection:
        await connection.execute(text("CREATE TABLE theirs (id INTEGER)"))
    with pytest.raises(NoDatabase, match="it has a table theirs"):
        await copy(database_of(state), empty, silent)
    await database.close()


async def test_a_copy_that_is_cut_short_leaves_an_empty_database(state: Path, empty: str) -> None:
    def cut(table: str, _done: int, _whole: int) -> None:
        if table == "nodes":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copy(database_of(state), empty, cut)
    await copy(database_of(state), empty, silent)
    assert await everything(empty) == await everything(database_of(state))


async def test_the_server_uses_what_it_is_told_and_its_own_again(state: Path, empty: str) -> None:
    await copy(database_of(state), empty, silent)
    assert await use(state, empty) is None
    assert database_of(state) == empty
    assert (state / "server" / "database").stat().st_mode & 0o777 == 0o600
    assert await use(state, "own") is None
    assert database_of(state) == own_database(state)


async def test_a_database_that_is_behind_begins_another_epoch(state: Path, empty: str) -> None:
    await copy(database_of(state), empty, silent)
    ahead = Database(database_of(state))
    async with ahead.writing() as connection:
        await connection.execute(networks.update().values(epoch=7))
    await ahead.close()
    assert await use(state, empty) == 8
    (network,) = (await everything(empty))["networks"]
    assert (network["epoch"], network["version"]) == (8, 0)


async def test_what_holds_another_network_or_none_is_not_used(state: Path, empty: str) -> None:
    with pytest.raises(NoDatabase, match="holds no network"):
        await use(state, empty)
    found(state / "other", "home", ("192.0.2.1",), 443, 3478)
    await copy(own_database(state / "other"), empty, silent)
    with pytest.raises(NoDatabase, match="holds another network"):
        await use(state, empty)
    assert database_of(state) == own_database(state)
    missing = state / "missing.db"
    with pytest.raises(NoDatabase, match="holds no network"):
        await use(state, f"sqlite:///{missing}")
    assert not missing.exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense", "is named by a URL"),
        ("mysql://root@localhost/shore", "`mysql` is no database that we know"),
        ("postgresql://shore:secret@127.0.0.1:1/shore", "cannot be used"),
        ("sqlite:////dev/null/x.db", "cannot be used"),
    ],
)
async def test_what_cannot_be_reached_is_one_sentence_without_the_password(
    state: Path, url: str, why: str
) -> None:
    with pytest.raises(NoDatabase, match=why) as refused:
        await copy(database_of(state), url, silent)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_two_servers_do_not_use_one_database(state: Path, postgresql: Cluster) -> None:
    url = postgresql.database()
    await copy(database_of(state), url, silent)
    one, other = Database(url), Database(url)
    await one.hold()
    with pytest.raises(NoDatabase, match="another server uses"):
        await other.hold()
    await one.close()
    await other.hold()
    await other.close()


async def test_a_backup_of_another_database_is_restored_to_sqlite(state: Path, postgresql: Cluster) -> None:
    url = postgresql.database()
    await copy(database_of(state), url, silent)
    await use(state, url)
    running = Database(url)
    await running.hold()
    file, elsewhere = state / "kept", state / "elsewhere"
    await asyncio.to_thread(backup, state, file)
    assert await asyncio.to_thread(restore, elsewhere, file) == 2
    assert database_of(elsewhere) == own_database(elsewhere)
    assert (await everything(own_database(elsewhere)))["nodes"] == (await everything(url))["nodes"]
    await running.close()


async def test_people_see_where_it_is_and_what_is_in_it(state: Path) -> None:
    first, *counts = await describe(database_of(state))
    assert first == f"sqlite:///{state}/server/server.db at step {HEAD} of {HEAD}"
    assert "nodes  4" in counts


def test_the_commands_move_a_network(state: Path) -> None:
    there = state / "there.db"

    def run(*words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "shore.coordination",
            "database",
            "--state",
            str(state),
            "--",
            *words,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, input=said)

    assert "nodes  4/4\n" in run("copy", f"sqlite:///{there}").stdout
    assert there.stat().st_mode & 0o777 == 0o600
    used = run("use", "-", said=f"sqlite:///{there}\n")
    assert (used.returncode, used.stdout) == (0, "the server uses it from its next start\n")
    assert f"{there} at step" in run("show").stdout
    again = run("copy", f"sqlite:///{there}")
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert sqlite3.connect(there).execute("SELECT count(*) FROM nodes").fetchone() == (4,)


def test_where_nothing_was_founded_there_is_nothing_to_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("shore.cli.programs.need_root", lambda: None)
    for words in ((), ("copy", "--to", "sqlite:////x"), ("use", "own")):
        refused = CliRunner().invoke(main, ["server", "db", *words])
        assert refused.exit_code == 3
        assert refused.stderr.startswith("shore: no network was founded on this machine")


def test_nothing_is_moved_under_a_server_that_runs(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORE_STATE_DIR", str(state))
    monkeypatch.setattr("shore.cli.programs.need_root", lambda: None)
    monkeypatch.setattr("shore.io.programs.is_kept", lambda name: name == "server")
    for words in (("copy", "--to", f"sqlite:///{state}/x.db"), ("use", "own")):
        refused = CliRunner().invoke(main, ["server", "db", *words])
        assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
        assert "`shore server stop` first" in refused.stderr
    assert not (state / "x.db").exists()


def test_a_server_imports_its_driver_before_it_gives_up_its_rights(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORE_STATE_DIR", str(state))
    assert "asyncpg" not in _imported_early("server")
    (state / "server" / "database").write_text("postgresql://shore@/shore\n")
    assert "asyncpg" in _imported_early("server")
    assert "asyncpg" not in _imported_early("relay")


def test_a_driver_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(NoDatabase, match=r"pip install 'shore\[postgresql\]'"):
        Database("postgresql://shore@/shore")
