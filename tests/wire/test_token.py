"""Join tokens: one word that is whole or refused."""

import pytest

from shore.wire.token import Token, parse_token, secret_prefix, token_text

TOKEN = Token(("192.0.2.1:443", "[2001:db8::1]:443"), bytes(range(32)), bytes(32))


def test_a_token_is_one_word_and_comes_back_whole() -> None:
    text = token_text(TOKEN)
    assert text.startswith("shore1_")
    assert text.split() == [text]
    assert "=" not in text
    assert parse_token(f"  {text}\n") == TOKEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tskey-auth-abc",
        "shore1_",
        "shore1_!!",
        "shore1_gA",
        token_text(TOKEN)[:-5],
        "shore1_" + "A" * 5000,
    ],
)
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="join token"):
        parse_token(text)


def test_what_lists_show_is_no_part_of_the_secret() -> None:
    assert secret_prefix(bytes(32)) == "66687aad"
