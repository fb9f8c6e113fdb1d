"""Commands about a peer, against a brain that answers from a script."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from shore.cli.main import main
from shore.io.history import History
from shore.model.config import Uplink
from shore.model.history import Change
from shore.model.keys import key_text
from shore.model.ping import PathPing
from shore.model.status import LaneStatus, PathStatus, PeerStatus, TunnelStatus
from shore.wire import api

KEY = b"\2" * 32
PATHS = tuple(
    PathStatus(
        id=number,
        kind="direct",
        family=4,
        uplink=uplink,
        local=f"{local}:51820",
        remote=f"{remote}:51820",
        primary=number == 1,
        state="live",
        rtt_ms=10.0 * number,
        jitter_ms=0.5,
        loss_tx=0.002,
        loss_rx=None,
        path_mtu=1500 if number == 1 else None,
        since_s=30.0,
        cost_ms=11.0 * number,
    )
    for number, uplink, local, remote in (
        (1, "eth0", "192.0.2.1", "192.0.2.2"),
        (2, "eth1", "198.51.100.1", "198.51.100.2"),
    )
)
PEER = PeerStatus(
    public_key=key_text(KEY),
    endpoint="192.0.2.2:51820",
    connected=True,
    last_received_age_s=0.1,
    last_handshake_age_s=9.0,
    session_age_s=9.0,
    handshake_rtt_ms=10.0,
    rx_bytes=1,
    tx_bytes=1,
    keepalive_s=25,
    keepalive_reason="configured",
    allowed_ips=("10.8.0.0/24",),
    drops={},
    name="office",
    probed=True,
    switches=3,
    paths=PATHS,
    primary_since_s=20.0,
)


class Brain:
    """Answers one tunnel's status, and whatever else it was told to."""

    def __init__(self, place: Path) -> None:
        self.peers = [PEER]
        self.asked: list[api.Request] = []
        self.answers: dict[type, list[api.Reply]] = {}
        place.mkdir(parents=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(place / "brain.sock"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            with stream, stream.makefile("rb") as lines:
                for line in lines:
                    stream.sendall(api.line(self._answer(api.request(line))))

    def _answer(self, request: api.Request) -> api.Reply:
        if isinstance(request, api.AskStatus):
            tunnel = TunnelStatus(
                "wg0", "up", "OURS=", 51820, 0, 1420, 1, 2, 0, {}, {}, (), tuple(self.peers)
            )
            return api.StatusReply(tunnel)
        self.asked.append(request)
        prepared = self.answers.get(type(request), [])
        return prepared.pop(0) if len(prepared) > 1 else prepared[0] if prepared else api.Done()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def brain(tmp_path: Path) -> Iterator[Brain]:
    made = Brain(tmp_path / "run" / "wg0")
    yield made
    made.close()


def shore(*words: str) -> Result:
    return CliRunner().invoke(main, words)


COMMANDS = [("rekey",), ("paths",), ("why",), ("ping",)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_no_tunnel_is_code_3_and_an_unknown_peer_names_those_there_are(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    result = shore(*command, "office")
    assert (result.exit_code, result.stderr) == (3, "shore: no tunnel is up\n")
    brain = Brain(tmp_path / "run" / "wg0")
    result = shore(*command, "nobody")
    assert (result.exit_code, result.stderr) == (
        1,
        f"shore: no peer is called `nobody`: there is office ({key_text(KEY)})\n",
    )
    brain.close()


def test_rekey_takes_a_name(brain: Brain) -> None:
    brain.peers = [msgspec.structs.replace(PEER, session_age_s=0.0)]
    result = shore("rekey", "office")
    assert (result.exit_code, result.output) == (
        0,
        f"wg0: there is a new session with office ({key_text(KEY)})\n",
    )
    assert brain.asked == [api.AskRenew(KEY)]


def test_paths_are_a_contract_and_a_table(brain: Brain) -> None:
    told = json.loads(shore("paths", "office", "--json").output)
    assert told["switches"] == 3
    contract = {
        "id": 1,
        "kind": "direct",
        "family": 4,
        "uplink": "eth0",
        "local": "192.0.2.1:51820",
        "remote": "192.0.2.2:51820",
        "primary": True,
        "state": "live",
        "rtt_ms": 10.0,
        "jitter_ms": 0.5,
        "loss_tx": 0.002,
        "loss_rx": None,
        "path_mtu": 1500,
        "since_s": 30.0,
    }
    assert contract.items() <= told["paths"][0].items()
    table = shore("paths", key_text(KEY)[:4]).output.splitlines()
    assert table[1].split()[:7] == ["*", "1", "eth0", "192.0.2.1:51820", "192.0.2.2:51820", "live", "30"]
    assert table[-1] == "3 changes of path"


def test_lanes_stand_under_the_paths(brain: Brain) -> None:
    lanes = (LaneStatus(0, 9.0, 12), LaneStatus(1, 4.4, 1))
    brain.peers = [msgspec.structs.replace(PEER, lanes=lanes)]
    told = json.loads(shore("paths", "office", "--json").output)
    assert told["lanes"][1] == {"id": 1, "session_age_s": 4.4, "messages": 1}
    assert shore("paths", "office").output.splitlines()[-2:] == [
        "lane 0: session 9 s old, 12 messages sent; lane 1: session 4 s old, 1 message sent",
        "3 changes of path",
    ]


def test_paths_of_plain_wireguard_are_said_not_to_be_measured(brain: Brain) -> None:
    brain.peers = [msgspec.structs.replace(PEER, probed=False, paths=())]
    result = shore("paths", "office")
    assert result.exit_code == 0
    assert "plain WireGuard" in result.output
    assert json.loads(shore("paths", "office", "--json").output)["paths"] == []


def test_status_says_the_path_in_one_line(brain: Brain) -> None:
    lines = shore("status").output.splitlines()
    assert lines[1] == f"  peer office ({key_text(KEY)}): connected"
    assert lines[2] == "    direct via eth0 to 192.0.2.2:51820, 10.0 ms, 0.2 % loss; 1 standby"
    dead = tuple(msgspec.structs.replace(path, state="dead", since_s=9.0) for path in PATHS)
    brain.peers = [msgspec.structs.replace(PEER, paths=dead, connected=False)]
    lines = shore("status").output.splitlines()
    assert lines[2] == "    direct via eth0 to 192.0.2.2:51820, dead for 9 s; no standbys"


def test_why_is_told_with_the_last_changes(brain: Brain) -> None:
    History("wg0").keep(
        KEY, Change(time.time() - 20, "path 192.0.2.2:51820 via eth0", "better than x", {}, "advice")
    )
    lines = shore("why", "office").output.splitlines()
    assert lines[1].startswith("  packets go direct via eth0 to 192.0.2.2:51820, for 20 s")
    assert lines[1].endswith("taken because: better than x")
    assert lines[2] == "  not direct via eth1 to 198.51.100.2:51820: costs 11 ms more (20.0 ms, 0.2 % loss)"
    assert lines[-1].endswith("path 192.0.2.2:51820 via eth0: better than x")
    told = json.loads(shore("why", "office", "--json").output)
    assert (told["tunnel"], told["suggestion"], len(told["others"])) == ("wg0", None, 1)


def test_history_is_there_after_the_tunnel_and_since_leaves_out_what_is_older(tmp_path: Path) -> None:
    kept = History("wg0")
    kept.keep(KEY, Change(time.time() - 7200, "path a", "no answer any more from b", {"to_rtt_ms": 20.5}))
    kept.keep(None, Change(time.time() - 60, "data plane replaced", "it exited"))
    lines = shore("history", key_text(KEY)[:5]).output.splitlines()
    assert lines[0].endswith("path a: no answer any more from b [to_rtt_ms 20.5]")
    assert len(lines) == 2
    (young,) = shore("history", key_text(KEY), "wg0", "--since", "1h", "--json").output.splitlines()
    assert json.loads(young)["what"] == "data plane replaced"
    assert shore("history", key_text(KEY), "--since", "yesterday").exit_code == 2
    result = shore("history", "office")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    brain = Brain(tmp_path / "run" / "wg0")
    assert len(shore("history", "office").output.splitlines()) == 2, "a running tunnel knows the name"
    brain.close()


def pinged(*rtts: float | None) -> api.Poked:
    return api.Poked(
        True,
        tuple(
            PathPing(number, f"eth{number - 1}", f"192.0.2.{number}:1", number == 1, True, rtt)
            for number, rtt in enumerate(rtts, 1)
        ),
    )


def test_ping_tells_each_path_apart(brain: Brain) -> None:
    brain.answers[api.AskPoke] = [pinged(10.0, None), pinged(14.0, 20.0)]
    result = shore("ping", "office", "-c", "2")
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [
            "1: via eth0 to 192.0.2.1:1 (primary): 10.0 ms",
            "1: via eth1 to 192.0.2.2:1: no answer",
            "2: via eth0 to 192.0.2.1:1 (primary): 14.0 ms",
            "2: via eth1 to 192.0.2.2:1: 20.0 ms",
            "via eth0 to 192.0.2.1:1 (primary): 2 of 2 answered, 0 % lost, "
            "10.0/12.0/14.0 ms (least, mean, most)",
            "via eth1 to 192.0.2.2:1: 1 of 2 answered, 50 % lost, 20.0/20.0/20.0 ms (least, mean, most)",
        ],
    )


def test_ping_names_the_relay_that_a_path_goes_by(brain: Brain) -> None:
    probed = PathPing(1, "eth0", "203.0.113.5:443", True, True, 10.0, "relay")
    brain.answers[api.AskPoke] = [api.Poked(True, (probed,))]
    result = shore("ping", "office", "-c", "1")
    assert result.output.startswith("1: via eth0 by relay 203.0.113.5:443 (primary): 10.0 ms\n")


def test_ping_without_any_answer_is_code_5(brain: Brain) -> None:
    brain.answers[api.AskPoke] = [pinged(None, None)]
    result = shore("ping", "office", "-c", "1")
    assert result.exit_code == 5
    assert "did not answer" in result.stderr
    result = shore("ping", "office", "-c", "1", "--json")
    assert result.exit_code == 5
    assert json.loads(result.output)["paths"][0] == {
        "id": 1,
        "uplink": "eth0",
        "remote": "192.0.2.1:1",
        "primary": True,
        "rtt_ms": [None],
        "lost": 1.0,
    }


def test_ping_of_plain_wireguard_without_a_tunnel_address_is_a_handshake(brain: Brain) -> None:
    brain.peers = [msgspec.structs.replace(PEER, probed=False, paths=(), session_age_s=0.0)]
    brain.answers[api.AskPoke] = [api.Poked(False)]
    result = shore("ping", "office", "--json")
    told = json.loads(result.output)
    assert (result.exit_code, told["by"], told["paths"][0]["rtt_ms"]) == (0, "handshake", [10.0])
    assert brain.asked == [api.AskPoke(KEY), api.AskRenew(KEY)]
    assert "answers no probes" in shore("ping", "office").output


def test_set_changes_what_is_in_force_and_says_what_a_reload_does(brain: Brain) -> None:
    result = shore("set", "wg0", "office", "redundancy=interactive")
    assert (result.exit_code, result.output) == (
        0,
        "wg0: redundancy is interactive; `shore reload wg0` brings back what the file says\n",
    )
    assert shore("set", "wg0", key_text(KEY), "name=home", "redundancy=off").exit_code == 0
    assert shore("set", "wg0", "uplinks=eth0, wwan0 metered").exit_code == 0
    assert brain.asked == [
        api.AskAmend(KEY, redundancy="interactive"),
        api.AskAmend(KEY, name="home", redundancy="off"),
        api.AskAmend(uplinks=(Uplink("eth0"), Uplink("wwan0", True))),
    ]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("office",), "it is `shore set NAME [PEER] KEY=VALUE...`"),
        (("office", "home", "name=x"), "it is `shore set NAME [PEER] KEY=VALUE...`"),
        (("office", "redundancy=sometimes"), "`sometimes` is not off, auto, interactive or always"),
        (("office", "uplinks=eth0"), "`uplinks` cannot be set of a peer: redundancy or name can"),
        (("redundancy=off",), "`redundancy` cannot be set of a tunnel: uplinks can"),
        (("uplinks=eth0 free",), "`eth0 free` is no uplink"),
    ],
)
def test_set_that_is_wrong_is_one_sentence_and_asks_nothing(
    brain: Brain, words: tuple[str, ...], part: str
) -> None:
    result = shore("set", "wg0", *words)
    assert result.exit_code == 2
    assert part in result.stderr
    assert brain.asked == []
