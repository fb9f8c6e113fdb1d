"""The REST API over TLS, which is the control socket behind the relay: keys, rights, and the document."""

import http.client
import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shore.cli.main import main
from shore.coordination.allowance import BURST
from shore.coordination.rest.application import ROUTES, document

PAGE = Path(__file__).parents[3] / "docs" / "openapi.json"


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["server", *words])


class Outside(http.client.HTTPConnection):
    """As one comes who was spliced by the relay."""

    def __init__(self, state: Path) -> None:
        super().__init__("localhost", timeout=5)
        self.path = state / "run" / "server" / "control.sock"

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(self.path))


def ask(
    state: Path, method: str, route: str, key: str | None, body: bytes = b"{}"
) -> tuple[int, dict[str, object]]:
    link = Outside(state)
    link.request(method, f"/api/v1{route}", body, {} if key is None else {"Authorization": f"Bearer {key}"})
    response = link.getresponse()
    answer = json.loads(response.read())
    link.close()
    return response.status, answer


def sentence(answer: dict[str, object]) -> str:
    detail = answer["detail"]
    assert isinstance(detail, dict)
    assert isinstance(detail["sentence"], str)
    return detail["sentence"]


def test_each_route_wants_its_right(server: Path) -> None:
    reading = run("keys", "create", "--note", "for the dashboard").output.strip()
    writing = run("keys", "create", "--write").output.strip()
    wrong = reading[:-2] + ("AA" if not reading.endswith("AA") else "BB")
    for route in ROUTES:
        path = route.path.replace("{name}", "nobody").replace("{prefix}", "0000")
        for key, may in ((None, ()), (wrong, ()), (reading, ("read",)), (writing, ("read", "write"))):
            status, answer = ask(server, route.method, path, key)
            if route.right in may:
                assert status in (200, 404, 422), (route.path, key, answer)
            elif route.right == "root" or key in (reading, writing):
                assert (status, sentence(answer) != "") == (403, True), (route.path, key)
            else:
                assert (status, sentence(answer) != "") == (401, True), (route.path, key)


def test_every_route_is_in_the_table(server: Path) -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert {route.right for route in ROUTES} == {"read", "write", "root"}
    assert all((route.method == "GET") <= (route.right != "write") for route in ROUTES)
    status, answer = ask(server, "GET", "/docs", None)
    assert (status, sentence(answer)) == (404, "there is no such route: see docs/openapi.json")


def test_a_key_that_was_revoked_lets_nobody_in(server: Path) -> None:
    key = run("keys", "create").output.strip()
    assert ask(server, "GET", "/status", key)[0] == 200
    (shown,) = json.loads(run("keys", "--json").output)["keys"]
    assert run("keys", "revoke", shown["prefix"]).exit_code == 0
    assert ask(server, "GET", "/status", key)[0] == 401
    assert run("keys").output == f"{shown['prefix']}  revoked\n"
    kept = b"".join(file.read_bytes() for file in (server / "server").glob("server.db*"))
    assert key.encode() not in kept
    assert run("keys", "revoke", "nothing").exit_code == 1


def test_who_guesses_is_slowed_down_and_disturbs_nobody(server: Path) -> None:
    key = run("keys", "create").output.strip()
    link = Outside(server)
    seen = []
    for _ in range(int(BURST) * 2):
        link.request("GET", "/api/v1/status", headers={"Authorization": "Bearer shorekey_x"})
        response = link.getresponse()
        response.read()
        seen.append((response.status, response.getheader("Retry-After")))
    link.close()
    assert seen[0] == (401, None)
    assert (429, "1") in seen
    assert ask(server, "GET", "/status", key)[0] == 200


@pytest.mark.parametrize("body", [b"[", b"{", b'{"user": 7}', b'{"users": "x"}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_nonsense_is_refused_in_a_sentence(server: Path, body: bytes) -> None:
    key = run("keys", "create", "--write").output.strip()
    status, answer = ask(server, "POST", "/tokens", key, body)
    assert (status, "\n" in sentence(answer)) == (422, False)


def test_the_document_is_current() -> None:
    assert json.loads(PAGE.read_text()) == json.loads(json.dumps(document())), (
        "write it anew: python -m shore.coordination describe > docs/openapi.json"
    )
