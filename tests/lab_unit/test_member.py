"""A node of a lab leaves nothing, whatever happens while it is taken down."""

import pytest

from shore.lab.member import Member
from shore.lab.net import Host


def test_the_directory_goes_though_time_is_up_while_the_node_is_taken_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    member = Member(Host("a"), "a")

    def late(*_words: str, **_more: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(member, "run", late)
    with pytest.raises(TimeoutError):
        member.down()
    assert not member.directory.exists()
