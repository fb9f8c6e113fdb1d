"""What nodes lead to: advertised by the node, approved by a person, and then in the netmaps of others."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.coordination.node import Node, join, linked

from shore.cli.main import main
from shore.model.netmap import Filter, Peer
from shore.wire import control

LAN, OTHER = "10.1.0.0/24", "fd77::/64"


async def run(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["nodes", "routes", *words])


async def advertise(node: Node, *prefixes: str) -> None:
    await node.say(control.Whereabouts((), (), prefixes))
    shown = f"{prefixes[0]}  " if prefixes else "no node leads"
    while shown not in (await run()).output:
        pass


async def led_to(node: Node, router: Node) -> tuple[str, ...]:
    """As the next change says."""
    name = f"peer:{router.node_key.hex()}"
    while name not in (change := await node.hear(control.Delta)).changed:
        pass
    return msgspec.msgpack.decode(change.changed[name], type=Peer).prefixes


async def let_in(router: Node) -> tuple[str, ...]:
    """What the router's filter names, as the next change says."""
    while "filter" not in (change := await router.hear(control.Delta)).changed:
        pass
    rules = msgspec.msgpack.decode(change.changed["filter"], type=Filter).rules
    return tuple(each for rule in rules for each in rule.destinations)


async def test_a_prefix_counts_once_it_is_advertised_and_approved(server: Path) -> None:
    async with linked(server) as router, linked(server) as one:
        await join(router, server, "router")
        await join(one, server, "one")
        await router.meet(one)
        await advertise(router, LAN, "100.64.0.0/16", "nonsense", OTHER)
        assert (await run()).output == (
            f"router  {LAN}  waits for --approve\nrouter  {OTHER}  waits for --approve\n"
        )
        approved = await run("router", "--approve", f"{LAN},{OTHER}")
        assert approved.output == f"router  {LAN}  approved\nrouter  {OTHER}  approved\n"
        assert await led_to(one, router) == (LAN, OTHER)
        assert {LAN, OTHER} < set(await let_in(router))
        await advertise(router, OTHER)
        assert await led_to(one, router) == (OTHER,)
        assert LAN not in await let_in(router)
        assert f"router  {LAN}  approved, and not advertised by the node\n" in (await run("router")).output
        await run("router", "--revoke", OTHER)
        assert await led_to(one, router) == ()
    (shown,) = json.loads((await run("router", "--json")).output)["nodes"]
    assert (shown["advertised"], shown["approved"]) == ([OTHER], [LAN])


async def test_it_is_known_again_after_the_node_was_away(server: Path) -> None:
    async with linked(server) as one:
        await join(one, server, "one")
        async with linked(server) as router:
            await join(router, server, "router")
            await one.meet(router)
            await advertise(router, LAN)
            await run("router", "--approve", LAN)
            assert await led_to(one, router) == (LAN,)
        async with linked(server, router.key, router.node_key) as back:
            await back.hello()
            await back.present()
            netmap = await back.hear(control.NetmapIs)
            assert LAN.encode() in netmap.records["self"]


async def test_a_prefix_has_one_node(server: Path) -> None:
    async with linked(server) as one, linked(server) as two:
        await join(one, server, "one")
        await join(two, server, "two")
        assert (await run("one", "--approve", LAN)).exit_code == 0
        refused = await run("two", "--approve", LAN)
        assert refused.exit_code == 1
        assert refused.stderr == (
            f"shore: one leads to {LAN} already: `shore nodes routes one --revoke {LAN}` first\n"
        )
        await run("one", "--revoke", LAN)
        assert (await run("two", "--approve", LAN)).exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("one", "--approve", "10.1.0.1/24"), "is no prefix such as"),
        (("one", "--approve", "100.64.0.0/16"), "holds addresses of the mesh itself"),
        (("one", "--revoke", LAN), "10.1.0.0/24 was not approved of one"),
        (("nobody", "--approve", LAN), 'no node is called "nobody"'),
        (("nobody",), "no node is called nobody"),
        (("relay-1", "--approve", LAN), "relay-1 is a relay, which leads to nothing"),
        (("--approve", LAN), "it is `shore nodes routes NAME --approve PREFIX`"),
    ],
)
async def test_a_mistake_is_one_sentence(server: Path, words: tuple[str, ...], said: str) -> None:
    async with linked(server) as one:
        await join(one, server, "one")
        refused = await run(*words)
    assert (refused.exit_code in (1, 2), refused.stderr.count("\n")) == (True, 1)
    assert said in refused.stderr
