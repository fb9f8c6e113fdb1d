"""Which peer a word means, and what is said where it means none or several."""

import pytest

from shore.cli.whom import Known, NotOne, find

OFFICE, HOME, PLAIN = (
    Known("wg0", "AbcOffice=", "office"),
    Known("wg0", "AbdHome=", "home"),
    Known("wg1", "Xyz="),
)
ALL = [OFFICE, HOME, PLAIN]


@pytest.mark.parametrize(
    ("word", "peer"), [("AbcOffice=", OFFICE), ("home", HOME), ("Abd", HOME), ("X", PLAIN)], ids=str
)
def test_a_key_the_beginning_of_one_or_a_name(word: str, peer: Known) -> None:
    assert find(word, ALL) == peer


def test_a_name_comes_before_the_beginning_of_another_key() -> None:
    named = Known("wg0", "Zzz=", "Abc")
    assert find("Abc", [OFFICE, named]) == named


@pytest.mark.parametrize(
    ("word", "peers", "sentence"),
    [
        ("Ab", ALL, "`Ab` may be office (AbcOffice=) or home (AbdHome=): write more of its key"),
        ("nobody", ALL, "no peer is called `nobody`: there is office (AbcOffice=), home (AbdHome=) and Xyz="),
        ("nobody", [], "no peer is called `nobody`: there are no peers at all"),
        ("", [PLAIN], "no peer is called ``: there is Xyz="),
        (
            "AbcOffice=",
            [OFFICE, Known("wg1", "AbcOffice=")],
            "`AbcOffice=` is a peer of wg0 and wg1: name the tunnel as well",
        ),
    ],
)
def test_none_or_several_is_one_sentence(word: str, peers: list[Known], sentence: str) -> None:
    with pytest.raises(NotOne) as refused:
        find(word, peers)
    assert str(refused.value) == sentence


def test_of_many_peers_the_first_are_named_and_the_others_counted() -> None:
    many = [Known("wg0", f"Key{number:02}=") for number in range(20)]
    with pytest.raises(NotOne, match=r"Key07= or 12 more"):
        find("Key", many)
