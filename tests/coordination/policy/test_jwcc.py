"""Comments and trailing commas go, everything else stays where it was."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shore.coordination.policy.jwcc import Unterminated, places, plain


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b'{"a": 1, // one\n "b": [2,],}', b'{"a": 1,       \n "b": [2 ] }'),
        (b'["// no", /* yes,\n */ "/* no */", ]', b'["// no",        \n    "/* no */"  ]'),
        (b'["\\"//",]', b'["\\"//" ]'),
        (b"[1, /* and */ // more\n]", b"[1                   \n]"),
        ('["ü"] // ü'.encode(), '["ü"]      '.encode()),
    ],
)
def test_what_json_lacks_becomes_spaces_of_equal_length(written: bytes, expected: bytes) -> None:
    assert plain(written) == expected
    assert len(expected) == len(written)
    msgspec.json.decode(expected)


@pytest.mark.parametrize(
    "written", [b"[,]", b"{,}", b"[1,,]", b"[1,,2]", b"{,", b'["a" / "b"]', b'["', b"'a'"]
)
def test_other_mistakes_stay_mistakes(written: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(plain(written))


@pytest.mark.parametrize("written", [b"[1] /*", b"/* a", b"/*/", b"[] /* // *"])
def test_a_comment_must_end(written: bytes) -> None:
    with pytest.raises(Unterminated):
        plain(written)


def test_each_value_has_its_place_and_one_of_an_object_that_of_its_key() -> None:
    json = b'{"a": [1, {"b": null}], "c": {}, "d": []}'
    expected = {(): 0, ("a",): b'"a"', ("a", 0): b"1", ("a", 1): b'{"b"', ("a", 1, "b"): b'"b"'}
    found = places(json)
    assert found.pop(("c",)) == json.index(b'"c"')
    assert found.pop(("d",)) == json.index(b'"d"')
    assert found == {path: json.index(at) if isinstance(at, bytes) else at for path, at in expected.items()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def paths(value: object, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {at}.union(*(paths(each, (*at, key)) for key, each in inner))


@given(JSON)
def test_json_is_itself_and_all_its_values_have_places(value: object) -> None:
    json = msgspec.json.encode(value)
    assert plain(json) == json
    assert set(places(json)) == paths(value)


@given(st.binary(max_size=60) | st.text('{}[],"/*\\ a1\n', max_size=40).map(str.encode))
def test_no_text_does_more_than_be_no_json(text: bytes) -> None:
    try:
        json = plain(text)
    except Unterminated:
        return
    assert len(json) == len(text)
