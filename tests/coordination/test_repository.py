"""Tokens and enrolment in the database."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from shore.coordination.found import found, own_database
from shore.coordination.moving import copy
from shore.coordination.names import within_range
from shore.coordination.repository import Invitation, NotEnrolled, Repository

NOW = 1_000_000.0


@pytest.fixture
async def repository(tmp_path: Path, empty: str) -> AsyncIterator[Repository]:
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    await copy(own_database(tmp_path), empty, lambda *_: None)
    opened = Repository(empty)
    yield opened
    await opened.close()


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def members(repository: Repository) -> list[str]:
    return [row.name for row in await repository.roll.nodes() if row.role == "node"]


async def test_of_fifty_that_come_at_once_one_wins(repository: Repository) -> None:
    secret = await repository.invite(Invitation(), "root", NOW)
    coming = (repository.enrol(key(i), key(1000 + i), secret, "kitchen", NOW) for i in range(50))
    came = await asyncio.gather(*coming, return_exceptions=True)
    refused = [str(one) for one in came if isinstance(one, NotEnrolled)]
    assert refused == ["this token was used before: ask for a new one (`shore invite`)"] * 49
    assert await members(repository) == ["kitchen"]


async def test_a_reusable_token_makes_names_and_addresses_of_their_own(repository: Repository) -> None:
    invitation = Invitation(user="ann", tags=("tag:tv",), reusable=True, ephemeral=True)
    secret = await repository.invite(invitation, "root", NOW)
    rows = [await repository.enrol(key(i), key(1000 + i), secret, "Kitchen", NOW) for i in range(3)]
    assert [row.name for row in rows] == ["kitchen", "kitchen-2", "kitchen-3"]
    assert len({row.v4 for row in rows} | {row.v6 for row in rows}) == 6
    assert {(row.user, tuple(row.tags), row.ephemeral) for row in rows} == {("ann", ("tag:tv",), True)}


async def test_an_address_is_not_drawn_from_what_is_in_use_around(repository: Repository) -> None:
    secret = await repository.invite(Invitation(reusable=True), "root", NOW)
    avoid = within_range(("100.64.0.0/11", "100.96.0.0/12", "10.0.0.0/8", "100.64.0.0/10", "nonsense"))
    assert [str(network) for network in avoid] == ["100.64.0.0/11", "100.96.0.0/12"]
    for number in range(5):
        row = await repository.enrol(key(number), key(1000 + number), secret, "one", NOW, avoid=avoid)
        assert IPv4Address(row.v4) in IPv4Network("100.112.0.0/12")


async def test_a_token_is_whole_again_where_the_enrolment_failed(repository: Repository) -> None:
    first = await repository.invite(Invitation(), "root", NOW)
    await repository.enrol(key(1), key(1001), first, "one", NOW)
    second = await repository.invite(Invitation(), "root", NOW)
    with pytest.raises(NotEnrolled, match="belongs to another"):
        await repository.enrol(key(2), key(1001), second, "two", NOW)
    with pytest.raises(NotEnrolled, match="enrolled already"):
        await repository.enrol(key(1), key(1002), second, "two", NOW)
    await repository.enrol(key(2), key(1002), second, "two", NOW)
    assert await members(repository) == ["one", "two"]


async def test_tokens_that_are_unknown_late_or_revoked_let_nobody_in(repository: Repository) -> None:
    secret = await repository.invite(Invitation(lifetime_s=60), "root", NOW)
    with pytest.raises(NotEnrolled, match="does not know"):
        await repository.enrol(key(1), key(1001), b"?" * 32, "one", NOW)
    with pytest.raises(NotEnrolled, match="expired"):
        await repository.enrol(key(1), key(1001), secret, "one", NOW + 60)
    await repository.revoke_token((await repository.tokens())[0].prefix, False, "root", NOW)
    with pytest.raises(NotEnrolled, match="revoked"):
        await repository.enrol(key(1), key(1001), secret, "one", NOW)
    assert await members(repository) == []


async def test_a_token_can_take_its_nodes_with_it(repository: Repository) -> None:
    secret = await repository.invite(Invitation(reusable=True), "root", NOW)
    rows = [await repository.enrol(key(i), key(1000 + i), secret, "n", NOW) for i in range(2)]
    prefix = (await repository.tokens())[0].prefix
    out = await repository.revoke_token(prefix, True, "root", NOW)
    assert [row.id for row in out] == [row.id for row in rows]
    assert await repository.revoke_token(prefix, True, "root", NOW) == ()
    fresh = await repository.invite(Invitation(), "root", NOW)
    with pytest.raises(NotEnrolled, match="enrolled already"):
        await repository.enrol(key(0), key(2000), fresh, "n", NOW)
    with pytest.raises(NotEnrolled, match="was revoked"):
        await repository.enrol(key(9), key(1000), fresh, "n", NOW)


async def test_many_that_come_at_once_get_names_and_addresses_of_their_own(repository: Repository) -> None:
    secrets = [await repository.invite(Invitation(), "root", NOW) for _ in range(10)]
    coming = (
        repository.enrol(key(i), key(1000 + i), secret, "kitchen", NOW) for i, secret in enumerate(secrets)
    )
    rows = await asyncio.gather(*coming)
    assert len({row.name for row in rows}) == len({row.v4 for row in rows}) == 10


async def test_the_secret_is_not_kept(tmp_path: Path) -> None:
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    repository = Repository(own_database(tmp_path))
    secret = await repository.invite(Invitation(), "root", NOW)
    kept = b"".join(file.read_bytes() for file in (tmp_path / "server").glob("server.db*"))
    assert secret not in kept
    assert (await repository.tokens())[0].prefix.encode() in kept
    await repository.close()
