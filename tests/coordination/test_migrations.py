"""The schema's history: wherever a database begins, it ends as `schema` says."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text

from shore.coordination import migrations
from shore.coordination.database import Database, NoDatabase
from shore.coordination.found import found, own_database
from shore.coordination.schema import metadata, nodes, tokens

TOKEN = {
    "hash": b"h" * 32,
    "prefix": "68686868",
    "user": "owner",
    "tags": ["tv"],
    "reusable": False,
    "ephemeral": False,
    "role": "node",
    "created_at": 1.5,
}

NODE = {
    "machine_key": b"m" * 32,
    "role": "node",
    "name": "laptop",
    "user": "owner",
    "tags": [],
    "ephemeral": False,
    "enrolled_at": 1.5,
}


def differences(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_an_empty_database_becomes_what_the_program_knows(empty: str) -> None:
    database = Database(empty)
    for _ in range(2):
        await database.migrate()
        async with database.reading() as connection:
            assert await connection.run_sync(differences) == []
            assert await connection.run_sync(migrations.revision_of) == migrations.HEAD
    await database.close()


def made_at_once(connection: Connection) -> None:
    """As the tables were before there were steps: those of the first, and no version."""
    with Operations.context(MigrationContext.configure(connection)):
        migrations.m0001_first.upgrade()


async def test_tables_that_were_made_at_once_are_taken_on_without_loss(empty: str) -> None:
    database = Database(empty)
    async with database.writing() as connection:
        await connection.run_sync(made_at_once)
        await connection.execute(tokens.insert().values(TOKEN))
        await connection.execute(insert(nodes).values({**NODE, "prefixes": ["10.1.0.0/24"]}).inline())
    await database.migrate()
    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(migrations.revision_of) == migrations.HEAD
        (row,) = (await connection.execute(select(tokens))).mappings()
        assert {**row, **TOKEN} == row
        (node,) = await connection.execute(select(nodes))
        assert (node.prefixes, node.advertised) == (["10.1.0.0/24"], [])
    await database.close()


async def test_a_step_that_fails_leaves_what_was(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        migrations.m0001_first._network()
        raise RuntimeError

    monkeypatch.setattr(migrations.m0001_first, "upgrade", broken)
    database = Database(empty)
    with pytest.raises(RuntimeError):
        await database.migrate()
    monkeypatch.undo()
    await database.migrate()
    await database.close()


async def test_a_newer_database_is_refused_and_left_alone(empty: str) -> None:
    database = Database(empty)
    await database.migrate()
    async with database.writing() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NoDatabase, match="is of a newer Shore"):
        await database.migrate()
    async with database.reading() as connection:
        assert await connection.run_sync(migrations.revision_of) == "9999"
    await database.close()


async def test_a_server_before_a_newer_database_says_one_sentence(tmp_path: Path) -> None:
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    database = Database(own_database(tmp_path))
    async with database.writing() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    words = ["-m", "shore.coordination", "serve", "--state", str(tmp_path), "--control-fd", "0"]
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, *words], capture_output=True, timeout=60, stdin=unlistened()
    )
    assert (ran.returncode, ran.stderr.count(b"\n")) == (1, 1)
    assert b"install that one" in ran.stderr


def unlistened() -> int:
    return socket.socket(socket.AF_UNIX).detach()


def test_steps_are_a_chain_that_alembic_reads_alike() -> None:
    names = [step.revision for step in migrations.HISTORY]
    assert names == sorted(set(names))
    assert [step.down_revision for step in migrations.HISTORY] == [None, *names[:-1]]
    there = sorted(Path(migrations.__file__).parent.glob("m*.py"))
    assert [Path(step.__file__ or "") for step in migrations.HISTORY] == there
