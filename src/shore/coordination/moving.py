"""Which database is in use, and how a network moves to another.

STATE/server/database holds the URL of another than STATE/server/server.db (0600: it may hold a password).
A move is three steps: stop the server, copy, use. A copy takes all tables as of one instant and puts them
into an empty database in one transaction: it is there whole or not at all. What is used must be of this
network. Where it is not at the very version of what was in use before, as nobody could compare or somebody
chose an older copy, its epoch is raised, so that nodes take its netmaps (docs/protocol/control.md).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, func, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shore.coordination import migrations
from shore.coordination.database import Database, NoDatabase
from shore.coordination.found import database_of, own_database, read_founded
from shore.coordination.schema import metadata, networks

AT_ONCE = 500
OWN = "own"

Progress = Callable[[str, int, int], None]


async def copy(source: str, target: str, progress: Progress, *, alone: bool = True) -> None:
    """All of a database into an empty one, as of one instant; `alone`: while no server uses either.

    Raises NoDatabase.
    """
    here, there = Database(source), Database(target)
    if here.url == there.url:
        raise NoDatabase(f"{there.shown} is the database in use: name another")
    try:
        if alone:
            await here.hold()
            await there.hold()
            await here.migrate()
        async with here.reading() as reading, there.writing() as writing:
            await writing.run_sync(_prepare, there.shown)
            for table in metadata.sorted_tables:
                await _copy_table(table, reading, writing, progress)
            if there.is_postgresql:
                await writing.run_sync(_count_on)
    finally:
        await here.close()
        await there.close()


async def use(state: Path, url: str) -> int | None:
    """Have the server start with this database from now, OWN: its own; the epoch, if it was raised.

    Raises NoDatabase, NotFounded.
    """
    founded, chosen = read_founded(state), own_database(state) if url == OWN else url
    database = Database(chosen)
    try:
        await database.hold()
        await _require_tables(database)
        await database.migrate()
        network = await _network(database)
        if network is None or network.id != founded.network:
            raise NoDatabase(f"{database.shown} holds another network than this machine's")
        raised = await _raise_epoch(database, network, await _network_in_use(state, database))
    finally:
        await database.close()
    _write_down(state, None if url == OWN else chosen)
    return raised


async def describe(url: str) -> list[str]:
    """What is to be said of a database, in lines. Raises NoDatabase."""
    database = Database(url)
    try:
        await _require_tables(database)
        async with database.reading() as connection:
            revision = await connection.run_sync(migrations.revision_of)
            counts = [f"{table.name}  {await _count(connection, table)}" for table in metadata.sorted_tables]
    finally:
        await database.close()
    return [f"{database.shown} at step {revision} of {migrations.HEAD}", *counts]


def _prepare(connection: Connection, shown: str) -> None:
    """Make the tables in an empty database. Raises NoDatabase, Newer."""
    ours = set(metadata.tables) | {"alembic_version"}
    there = inspect(connection).get_table_names()
    strange = sorted(set(there) - ours)
    if strange:
        raise NoDatabase(f"{shown} is not empty: it has a table {strange[0]}, which is not ours")
    migrations.upgrade(connection)
    for table in metadata.sorted_tables:
        if connection.scalar(select(func.count()).select_from(table)):
            raise NoDatabase(f"{shown} is not empty: there are {table.name} in it")


async def _copy_table(
    table: Table, reading: AsyncConnection, writing: AsyncConnection, progress: Progress
) -> None:
    whole, done = await _count(reading, table), 0
    async with reading.stream(select(table)) as rows:
        async for some in rows.mappings().partitions(AT_ONCE):
            await writing.execute(table.insert(), [dict(row) for row in some])
            done += len(some)
            progress(table.name, done, whole)
    there = await _count(writing, table)
    if there != whole:
        raise NoDatabase(f"of {whole} {table.name} {there} arrived: nothing was copied")
    if not whole:
        progress(table.name, 0, 0)


def _count_on(connection: Connection) -> None:
    """New rows get numbers that no row has."""
    for table in metadata.sorted_tables:
        if table.autoincrement_column is not None:
            next_one = select(func.coalesce(func.max(table.c.id), 0) + 1).scalar_subquery()
            sequence = func.pg_get_serial_sequence(table.name, "id")
            connection.execute(select(func.setval(sequence, next_one, False)))


async def _count(connection: AsyncConnection, table: Table) -> int:
    return int(await connection.scalar(select(func.count()).select_from(table)) or 0)


async def _require_tables(database: Database) -> None:
    """Nothing is made where nothing is."""
    if database.is_there():
        async with database.reading() as connection:
            if await connection.run_sync(lambda each: inspect(each).has_table(networks.name)):
                return
    raise NoDatabase(f"{database.shown} holds no network: `shore server db copy` first")


async def _network(database: Database) -> Row[Any] | None:
    async with database.reading() as connection:
        return (await connection.execute(select(networks))).one_or_none()


async def _network_in_use(state: Path, chosen: Database) -> Row[Any] | None:
    """None where nobody can say."""
    database = Database(database_of(state))
    try:
        return await _network(database)
    except NoDatabase:
        return None
    finally:
        await database.close()


async def _raise_epoch(database: Database, network: Row[Any], before: Row[Any] | None) -> int | None:
    if before is not None and (before.epoch, before.version) == (network.epoch, network.version):
        return None
    epoch = max(network.epoch, 0 if before is None else before.epoch) + 1
    async with database.writing() as connection:
        await connection.execute(update(networks).values(epoch=epoch, version=0))
    return int(epoch)


def _write_down(state: Path, url: str | None) -> None:
    path = state / "server" / "database"
    if url is None:
        path.unlink(missing_ok=True)
        return
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{url}\n")
    owner = path.parent.stat()
    os.chown(new, owner.st_uid, owner.st_gid)
    new.rename(path)
