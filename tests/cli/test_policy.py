"""`shore policy`, against a server of a few lines that speaks the REST API on a unix socket."""

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from shore.cli.main import main
from shore.coordination.members import Member
from shore.coordination.policy import STARTER, PolicyError, Unknown, compile, diff, trace
from shore.wire.policy import Changes, Checked, Complaint, PolicyText, Question, Refusal

MEMBERS = (
    Member(1, "bob", "bob", (), ("100.64.0.1",)),
    Member(2, "web", "owner", ("web",), ("100.64.0.2",)),
)
STRICT = """{"tagOwners": {"tag:web": []},
 "grants": [{"src": ["bob@"], "dst": ["tag:web"], "ip": ["tcp:443"]}],}
"""
FAILING = STRICT.replace(",}\n", ',\n "tests": [{"src": "bob@", "deny": ["tag:web:443"]}]}\n')


class Server(socketserver.ThreadingUnixStreamServer):
    text = STARTER

    def answer(self, method: str, route: str, body: bytes) -> msgspec.Struct:
        """What docs/policy.md says of each route. Raises PolicyError, Unknown."""
        if (method, route) == ("GET", "/api/v1/policy"):
            return PolicyText(self.text)
        if (method, route) == ("POST", "/api/v1/policy/trace"):
            asked = msgspec.json.decode(body, type=Question)
            ends = (asked.source, asked.destination)
            policy = compile(self.text, MEMBERS)
            return trace(policy, MEMBERS, *ends, port=asked.port, protocol=asked.protocol)
        text = msgspec.json.decode(body, type=PolicyText).text
        policy = compile(text, MEMBERS)
        if (method, route) == ("POST", "/api/v1/policy/diff"):
            return Changes(diff(compile(self.text, MEMBERS), policy, MEMBERS), policy.notes)
        if (method, route) == ("PUT", "/api/v1/policy"):
            self.text = text
        else:
            assert (method, route) == ("POST", "/api/v1/policy/check")
        return Checked(policy.notes)


class Conversation(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            code, answer = 200, self.server.answer(self.command, self.path, body)
        except PolicyError as error:
            code, answer = 422, Refusal(error.complaint)
        except Unknown as error:
            code, answer = 404, Refusal(Complaint(str(error)))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(msgspec.json.encode(answer))

    do_GET = do_PUT = do_POST = answer

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "server").mkdir()
    return tmp_path


@pytest.fixture
def server(runtime: Path) -> Iterator[Server]:
    with Server(str(runtime / "server" / "api.sock"), Conversation) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.hujson"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["policy", *map(str, words)])


def check(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from shore.cli.main import main; main()", "policy", "check", str(file)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_a_file_is_checked_without_a_server(file: Path) -> None:
    file.write_text(STRICT)
    checked = check(file)
    assert (checked.returncode, checked.stdout) == (0, f"{file}: right (1 line lets members in)\n")
    file.write_text(FAILING)
    wrong = check(file)
    assert wrong.returncode == 1
    assert wrong.stderr == f"shore: {file}:3:37: the test fails: line 2 lets bob@ reach tag:web:443\n"
    absent = check(file.with_name("none"))
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1)


def test_a_right_file_is_put_in_force_and_read_back(server: Server, file: Path) -> None:
    file.write_text(STRICT)
    assert run("set", file).output == f"{file} is in force\n"
    assert server.text == STRICT
    assert run("get").output == STRICT
    assert run("test").output == "the policy is right, and its tests pass\n"


@pytest.mark.parametrize("wrong", [FAILING, '{"grants": [', '{"grants": [{"src": ["nobody"]}]}'])
def test_a_wrong_file_changes_nothing(server: Server, file: Path, wrong: str) -> None:
    file.write_text(wrong)
    refused = run("set", file)
    assert refused.exit_code == 1
    assert refused.output.startswith(f"shore: {file}:")
    assert server.text == STARTER


def test_a_difference_is_listed_by_pairs(server: Server, file: Path) -> None:
    file.write_text(STRICT)
    assert run("diff", file).output == "- bob -> web: every protocol\n- web -> bob: every protocol\n"
    server.text = "{}"
    assert run("diff", file).output == "+ bob -> web: tcp 443\n"
    assert json.loads(run("diff", file, "--json").output)["changes"][0]["gained"] == "tcp 443"
    server.text = STRICT
    assert run("diff", file).output == "nobody gains or loses anything\n"


def test_a_trace_names_the_line_or_says_that_there_is_none(server: Server) -> None:
    server.text = STRICT
    let_in = run("trace", "bob", "100.64.0.2", 443)
    assert let_in.exit_code == 0
    assert let_in.output.startswith("line 2 lets bob reach web by tcp 443\n  {")
    denied = run("trace", "bob", "web", 443, "--proto", "udp")
    assert (denied.exit_code, denied.output) == (7, "no line lets bob reach web by udp 443\n")
    unknown = run("trace", "bobby", "web", 443)
    assert unknown.exit_code == 1
    assert "no member is called `bobby`" in unknown.output
    assert json.loads(run("trace", "bob", "web", 443, "--json").output)["line"] == 2


@pytest.mark.parametrize("words", [["get"], ["test"], ["trace", "a", "b", "1"]])
def test_without_a_server_one_sentence_says_so(runtime: Path, words: list[str]) -> None:
    answer = run(*words)
    assert (answer.exit_code, answer.output) == (3, "shore: no coordination server runs on this machine\n")


def test_a_file_that_is_not_there_is_named(server: Server, file: Path) -> None:
    answer = run("set", file)
    assert (answer.exit_code, answer.output) == (
        1,
        f"shore: {file} cannot be read: No such file or directory\n",
    )


def test_a_server_that_answers_nonsense_is_quoted_by_its_code(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.send_response(500)
        conversation.end_headers()
        conversation.wfile.write(b"<html>")

    monkeypatch.setattr(Conversation, "do_GET", answer)
    assert run("get").output == "shore: the server answered with code 500\n"
