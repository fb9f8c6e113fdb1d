"""Whom data planes and programs become: users of their own, where the machine has them."""

import os
import pwd
from types import SimpleNamespace

import pytest

from shore.io import user


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The users of a machine on which we are root."""
    users: dict[str, int] = {}

    def entry(name: str) -> SimpleNamespace:
        return SimpleNamespace(pw_uid=users[name], pw_gid=users[name])

    monkeypatch.setattr(pwd, "getpwnam", entry)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(user, "_is_mapped", lambda *_: True)
    return users


def test_a_data_plane_is_no_user_of_servers_and_relays(known: dict[str, int]) -> None:
    known.update({"shore": 990, "shore-plane": 991})
    assert (user.program_user(), user.plane_user()) == ("990:990", "991:991")


def test_whoever_is_missing_is_nobody_and_not_the_other_one(known: dict[str, int]) -> None:
    known["shore"] = 990
    assert (user.program_user(), user.plane_user()) == ("990:990", "65534:65534")


def test_who_may_become_nobody_else_stays_who_he_is(
    known: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    known["shore-plane"] = 991
    monkeypatch.setattr(user, "_is_mapped", lambda *_: False)
    assert user.plane_user() == f"0:{os.getegid()}"
