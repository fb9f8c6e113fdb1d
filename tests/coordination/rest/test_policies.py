"""`shore policy` against a server that runs: what is in force, and for whom."""

import asyncio
from pathlib import Path

from click.testing import CliRunner, Result
from tests.coordination.node import join, linked

from shore.cli.main import main
from shore.coordination.policy import STARTER
from shore.wire import control

NOBODY = '{"grants": []}\n'
WRONG = '{"grants": [\n  {"src": ["*"], "dst": ["tag:wbe"], "ip": ["*"]}]}\n'


async def run(*words: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["policy", *map(str, words)])


async def test_a_policy_comes_into_force_for_the_nodes_that_are_there(server: Path) -> None:
    file = server / "new.hujson"
    async with linked(server) as one, linked(server) as two:
        await join(one, server, "one")
        await join(two, server, "two")
        await one.meet(two)
        assert (await run("get")).output == STARTER
        assert (await run("trace", "one", "two", 22)).exit_code == 0
        file.write_text(WRONG)
        for word in ("set", "diff"):
            refused = await run(word, file)
            assert refused.exit_code == 1
            assert refused.stderr.startswith(f"shore: {file}:2:")
        assert (await run("get")).output == STARTER
        file.write_text(NOBODY)
        assert "one -> two" in (await run("diff", file)).output
        assert (await run("set", file)).stdout == f"{file} is in force\n"
        change = await one.hear(control.Delta)
        while f"peer:{two.node_key.hex()}" not in change.removed:
            change = await one.hear(control.Delta)
        assert (await run("get")).output == NOBODY
        assert (await run("trace", "one", "two", 22)).exit_code == 7
        unknown = await run("trace", "one", "nobody", 22)
        assert (unknown.exit_code, unknown.stderr.count("\n")) == (1, 1)


async def test_a_body_that_is_too_large_is_refused(server: Path) -> None:
    file = server / "large.hujson"
    file.write_text("// " + "x" * (1 << 20) + "\n{}")
    refused = await run("set", file)
    assert (refused.exit_code, refused.stderr) == (1, "shore: a request has at most 1048576 bytes\n")
