"""`shore invite` and `shore tokens` against a server that runs."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from shore.cli.main import main
from shore.wire.token import parse_token, secret_prefix


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_an_invitation_is_one_command(server: Path) -> None:
    printed = run("invite")
    assert printed.exit_code == 0
    token = parse_token(printed.output.removeprefix("shore up --join "))
    assert token.addresses == ("192.0.2.1:443",)
    listed = run("tokens").output
    assert listed.startswith(f"{secret_prefix(token.secret)}  open  owner  expires ")
    said = json.loads(run("invite", "--json").output)
    assert sorted(said) == ["command", "schema", "token"]
    assert said["command"] == f"shore up --join {said['token']}"


def test_what_was_asked_for_is_what_lists_show(server: Path) -> None:
    words = (
        "--reusable",
        "--ephemeral",
        "--user",
        "ann",
        "--tag",
        "tag:tv",
        "--tag",
        "old",
        "--expires",
        "never",
    )
    assert run("invite", *words).exit_code == 0
    (token,) = json.loads(run("tokens", "--json").output)["tokens"]
    assert (token["user"], token["tags"], token["expires_at"]) == ("ann", ["tv", "old"], None)
    assert token["reusable"]
    assert token["ephemeral"]


def test_a_token_is_revoked_by_its_prefix(server: Path) -> None:
    token = parse_token(json.loads(run("invite", "--json").output)["token"])
    prefix = secret_prefix(token.secret)
    assert run("tokens", "revoke", prefix).output == f"{prefix} is revoked\n"
    assert run("tokens").output == f"{prefix}  revoked  owner\n"
    unknown = run("tokens", "revoke", "zz/../zz")
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (1, 1)


def test_what_is_no_user_tag_or_time_is_refused_in_one_sentence(server: Path) -> None:
    for words in (("--user", "a b"), ("--user", "ann\n"), ("--tag", "t\x1bv"), ("--expires", "0s")):
        refused = run("invite", *words)
        assert refused.exit_code != 0
        assert (refused.stdout, refused.stderr.count("\n")) == ("", 1)
    assert run("tokens").output == ""


def test_without_a_server_there_is_a_sentence(tmp_path: Path) -> None:
    refused = CliRunner(env={"SHORE_RUNTIME_DIR": str(tmp_path)}).invoke(main, ["invite"])
    assert (refused.exit_code, refused.stderr) == (3, "shore: no coordination server runs on this machine\n")
