"""Where the server keeps what it has to: SQLite beside its keys, or PostgreSQL by URL.

There is one writer at a time on either, so what a transaction that writes has read stays true until it ends.
SQLite has one writer by itself, if a transaction begins IMMEDIATE and waits for its turn; on PostgreSQL
whoever writes takes one advisory lock first. Who only reads waits for nobody. The schema is brought to what
this program knows (`migrations`) by a writer like any other.

One server serves a database: where two machines could reach it, it holds another lock for as long as it
lives. A database that is away for a while stops what needs it, and nothing else.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from sqlalchemy import event, func, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as Busy
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from shore.coordination import migrations

WAIT_S = 30
# A node gives a link up after so long; it had better dial again later than be one more who waits.
BUSY_S = 10.0
KEPT, MOST_AT_ONCE = 5, 15
# A server that was killed a moment ago may hold its lock yet.
HOLDER_GONE_WITHIN_S = 5.0
WRITER, SERVER = 0x73686F7265, 0x73686F7266
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_WRITES = "shore_writes"


class NoDatabase(Exception):
    """It cannot be used. One sentence, without the password."""


class Database:
    """One database, whichever it is. Raises NoDatabase if its URL or its driver is missing."""

    def __init__(self, url: str) -> None:
        self.url = _place(url)
        self.is_postgresql = self.url.get_backend_name() == "postgresql"
        with self._plainly():
            self._engine: AsyncEngine = create_async_engine(
                self.url,
                pool_pre_ping=self.is_postgresql,
                pool_size=KEPT,
                max_overflow=MOST_AT_ONCE - KEPT,
                pool_timeout=BUSY_S,
            )
        if not self.is_postgresql:
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
        self._writers = self._engine.execution_options(**{_WRITES: True})
        self._holding: AsyncConnection | None = None

    @property
    def shown(self) -> str:
        """The URL as people may see it."""
        return self.url.set(drivername=self.url.get_backend_name()).render_as_string(hide_password=True)

    def is_there(self) -> bool:
        """False where reading would make an empty file."""
        return self.is_postgresql or Path(self.url.database or "").exists()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """What is true as of one instant. Raises NoDatabase."""
        with self._plainly():
            async with self._engine.connect() as connection:
                if self.is_postgresql:
                    await connection.execution_options(isolation_level="REPEATABLE READ")
                yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of the one who writes now: all of it, or nothing. Raises NoDatabase."""
        with self._plainly():
            async with self._writers.begin() as connection:
                if self.is_postgresql:
                    await connection.execute(select(func.pg_advisory_xact_lock(WRITER)))
                yield connection

    async def migrate(self) -> None:
        """Bring the schema to what this program knows. Raises NoDatabase."""
        async with self.writing() as connection:
            await connection.run_sync(migrations.upgrade)

    async def hold(self) -> None:
        """Be the only server of this database until it is closed. Raises NoDatabase."""
        if not self.is_postgresql:
            return
        deadline = time.monotonic() + HOLDER_GONE_WITHIN_S
        with self._plainly():
            connection = await self._engine.connect()
            try:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                while not await connection.scalar(select(func.pg_try_advisory_lock(SERVER))):
                    if time.monotonic() > deadline:
                        raise NoDatabase(f"another server uses {self.shown}")
                    await asyncio.sleep(0.1)
            except BaseException:
                await connection.close()
                raise
            self._holding = connection

    async def close(self) -> None:
        """Let go of it."""
        if self._holding is not None:
            await self._holding.close()
        await self._engine.dispose()

    @contextlib.contextmanager
    def _plainly(self) -> Iterator[None]:
        try:
            yield
        except migrations.Newer as error:
            raise NoDatabase(f"{self.shown} {error}") from None
        except ModuleNotFoundError:
            raise NoDatabase("PostgreSQL needs its driver: pip install 'shore[postgresql]'") from None
        except Busy:
            raise NoDatabase(f"{self.shown} cannot be used: all connections to it were busy") from None
        except (OSError, DBAPIError) as error:
            raise NoDatabase(f"{self.shown} cannot be used: {_why(error)}") from None


def _place(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        example = "postgresql://shore@db.example.org/shore"
        raise NoDatabase(f"a database is named by a URL such as {example}") from None
    backend = url.get_backend_name()
    if backend not in DRIVERS:
        raise NoDatabase(f"`{backend}` is no database that we know: there are sqlite and postgresql")
    return url.set(drivername=DRIVERS[backend])


def _why(error: OSError | DBAPIError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    first = str(said).splitlines()[0]
    return first.rpartition(">: ")[2]


def _prepare_sqlite(connection: object, _entry: ConnectionPoolEntry) -> None:
    """The driver begins no transactions by itself; see `_begin_sqlite`."""
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in (f"busy_timeout={WAIT_S * 1000}", "journal_mode=WAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: object) -> None:
    writes = connection.get_execution_options().get(_WRITES)  # type: ignore[attr-defined]
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")  # type: ignore[attr-defined]
