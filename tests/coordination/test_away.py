"""A server whose PostgreSQL is away for a while: links go on, and who needs it is told to try again."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.coordination.node import join, linked
from tests.coordination.postgresql import Cluster
from tests.coordination.serving import serving

from shore.cli.main import main
from shore.coordination import database
from shore.coordination.database import Database, NoDatabase
from shore.coordination.found import database_of, found
from shore.coordination.moving import copy, use
from shore.model.desired import Candidate
from shore.wire import control


async def test_links_go_on_while_the_database_is_away(
    tmp_path: Path, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    url = postgresql.database()
    await copy(database_of(tmp_path), url, lambda *_: None)
    await use(tmp_path, url)
    with serving(tmp_path):
        async with linked(tmp_path) as one, linked(tmp_path) as two:
            await join(one, tmp_path, "one")
            await join(two, tmp_path, "two")
            await one.meet(two)
            await asyncio.to_thread(postgresql.stop)
            try:
                await two.say(control.Whereabouts((Candidate("192.0.2.7:7", "host"),), ()))
                await one.meet(two)
                async with linked(tmp_path) as late:
                    await late.greet()
                    assert (await late.hear(control.Refused)).code == "closing"
                refused = await asyncio.to_thread(CliRunner().invoke, main, ["tokens"])
                assert refused.exit_code == 1
                assert (refused.stderr.count("\n"), "cannot be used" in refused.stderr) == (1, True)
            finally:
                await asyncio.to_thread(postgresql.start)
            async with linked(tmp_path) as three:
                await join(three, tmp_path, "three")
                await one.meet(three)


async def test_who_finds_all_connections_busy_is_told_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    used = Database(f"sqlite:///{tmp_path}/server.db")
    async with AsyncExitStack() as busy:
        for _ in range(database.MOST_AT_ONCE):
            await busy.enter_async_context(used.reading())
        with pytest.raises(NoDatabase, match="all connections to it were busy"):
            async with used.reading():
                pass
    await used.close()
