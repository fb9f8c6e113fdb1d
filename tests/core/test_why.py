"""`shore why`: each sentence from the status that it stands for."""

import msgspec
import pytest

from shore.core.why import explain, figures, path_words, span
from shore.model.explanation import Explanation
from shore.model.history import Change
from shore.model.status import PathStatus, PeerStatus, TunnelStatus

WALL = 1_000_000.0
FIRST = PathStatus(
    id=1,
    kind="direct",
    family=4,
    uplink="eth0",
    local="192.0.2.1:51820",
    remote="192.0.2.2:51820",
    primary=True,
    state="live",
    rtt_ms=12.3,
    jitter_ms=0.5,
    loss_tx=0.002,
    loss_rx=0.0,
    path_mtu=None,
    since_s=300.0,
    proof_age_s=0.1,
    cost_ms=13.3,
    usual_rtt_ms=12.0,
)
SECOND = msgspec.structs.replace(
    FIRST, id=2, uplink="wwan0", remote="198.51.100.2:51820", primary=False, rtt_ms=60.0, cost_ms=61.3
)


def path(base: PathStatus = SECOND, **changes: object) -> PathStatus:
    return msgspec.structs.replace(base, **changes)


def peer(*paths: PathStatus, **changes: object) -> PeerStatus:
    whole = PeerStatus(
        public_key="PEER=",
        endpoint="192.0.2.2:51820",
        connected=True,
        last_received_age_s=0.1,
        last_handshake_age_s=60.0,
        session_age_s=60.0,
        handshake_rtt_ms=12.0,
        rx_bytes=1,
        tx_bytes=1,
        keepalive_s=25,
        keepalive_reason="configured",
        allowed_ips=("10.8.0.2/32",),
        drops={},
        probed=bool(paths),
        paths=paths,
        primary_since_s=240.0,
    )
    return msgspec.structs.replace(whole, **changes)


def why(which: PeerStatus, *changes: Change, **of_tunnel: object) -> Explanation:
    tunnel = TunnelStatus("wg0", "up", "OURS=", 51820, 0, 1420, 1, 2, 0, {}, {}, (), (which,))
    return explain(msgspec.structs.replace(tunnel, **of_tunnel), which, changes, WALL)


def test_all_is_well_and_nothing_is_suggested() -> None:
    said = why(peer(FIRST, SECOND))
    assert said.now == "packets go direct via eth0 to 192.0.2.2:51820, for 4 min (12.3 ms, 0.2 % loss)"
    assert [other.why for other in said.others] == ["costs 48 ms more (60.0 ms, 0.2 % loss)"]
    assert (said.path, said.suggestion, said.since_s) == (FIRST, None, 240.0)


def test_the_change_that_began_it_is_its_cause_and_an_older_one_is_not() -> None:
    cause = Change(WALL - 240.5, "path 192.0.2.2:51820 via eth0", "no answer any more from x", {}, "dead")
    assert why(peer(FIRST), cause).now.endswith("; taken because: no answer any more from x")
    assert "because" not in why(peer(FIRST), msgspec.structs.replace(cause, at=WALL - 900)).now
    other = msgspec.structs.replace(cause, what="path MTU 1500 to x", cause="mtu")
    assert "because" not in why(peer(FIRST), other).now


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (path(state="dead", since_s=12.0, proof_age_s=13.4), "dead for 12 s: last answer 13 s ago"),
        (path(state="dead", since_s=12.0, proof_age_s=None), "dead for 12 s: it never answered"),
        (
            path(state="held", since_s=4.0, hold_s=6.0),
            "it died and has answered again for 4 s, held for 6 s more",
        ),
        (path(state="unproven", since_s=2.0), "no probe was answered there yet, for 2 s"),
        (path(state="suspect", since_s=1.0, proof_age_s=1.2), "in doubt for 1 s: last answer 1 s ago"),
        (path(metered=True, cost_ms=10_060.0), "metered: a standby only"),
        (path(avoided_s=45.0), "left for its loss, and not trusted for 45 s more"),
        (path(cost_ms=None), "live, and not measured yet"),
        (
            path(cost_ms=8.3, rtt_ms=8.0),
            "costs only 5 ms less (8.0 ms, 0.2 % loss): a change needs 12 ms",
        ),
        (
            path(cost_ms=500.0, rtt_ms=60.0, loss_tx=0.064),
            "costs 487 ms more (60.0 ms, 6.4 % loss)",
        ),
    ],
)
def test_why_another_path_is_not_taken(other: PathStatus, sentence: str) -> None:
    assert why(peer(FIRST, other)).others[0].why == sentence


def test_a_much_cheaper_path_is_about_to_be_taken() -> None:
    slow = path(FIRST, cost_ms=340.0)
    assert why(peer(slow, SECOND)).others[0].why == (
        "costs 279 ms less (60.0 ms, 0.2 % loss): it is taken once that has lasted"
    )


def test_an_only_path_that_became_slow_is_named() -> None:
    slow = path(FIRST, rtt_ms=312.0, usual_rtt_ms=12.0)
    assert why(peer(slow)).suggestion == (
        "direct via eth0 to 192.0.2.2:51820 became slow (+300 ms), and there is no other path to take: "
        "look for what fills or delays that way"
    )
    dead = path(state="dead")
    assert "no other path" in str(why(peer(slow, dead)).suggestion)
    assert "the others are no better" in str(why(peer(slow, SECOND)).suggestion)


def test_an_only_path_that_loses_is_named_with_the_worse_direction() -> None:
    suggestion = why(peer(path(FIRST, loss_rx=0.12))).suggestion
    assert suggestion is not None
    assert suggestion.startswith("direct via eth0 to 192.0.2.2:51820 loses 12 %, the only one")


def test_no_answer_by_any_path_asks_about_udp() -> None:
    dead = [path(base, state="dead", since_s=9.0) for base in (FIRST, SECOND)]
    assert why(peer(*dead, connected=False)).suggestion == (
        "is UDP blocked on the way, or the peer switched off? No answer comes by any of 2 paths"
    )
    assert why(peer(dead[0], connected=False)).now.endswith(", dead for 9 s: last answer 0 s ago")


def test_a_clock_that_is_behind_comes_before_what_it_explains() -> None:
    suggestion = why(peer(connected=False, last_handshake_age_s=None), clock_behind_s=7200.0).suggestion
    assert suggestion is not None
    assert suggestion.startswith("set the clock: it is 2 h behind")
    assert why(peer(FIRST), clock_behind_s=7200.0).suggestion is None, "it answers all the same"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"endpoint": None, "session_age_s": None}, "give it an Endpoint"),
        ({"last_handshake_age_s": None, "session_age_s": None}, "`shore rekey`"),
        (
            {"last_handshake_age_s": None, "session_age_s": None, "recovery": "resolving"},
            "does it know our public key OURS=",
        ),
        ({}, "is it switched off, or is UDP to 192.0.2.2:51820 blocked"),
    ],
)
def test_a_plain_peer_that_is_silent(changes: dict[str, object], part: str) -> None:
    assert part in str(why(peer(connected=False, **changes)).suggestion)


def test_plain_wireguard_has_no_probes_and_that_is_no_fault() -> None:
    said = why(peer())
    assert said.now == (
        "packets go to 192.0.2.2:51820, for 4 min; an unmeasured path: it has not answered our hello, "
        "as plain WireGuard does"
    )
    assert (said.others, said.suggestion) == ((), None)


def test_nobody_knows_where_a_peer_is() -> None:
    assert why(peer(endpoint=None, primary_since_s=None)).now == (
        "it has no path: nobody said where it is, and it has not greeted us"
    )


def test_a_data_plane_that_is_gone_is_the_first_thing_to_say() -> None:
    assert "`shore log wg0`" in str(why(peer(FIRST, connected=False), dataplane_pid=None).suggestion)


def test_a_path_that_flaps_is_named_and_only_the_last_changes_are_shown() -> None:
    moves = [Change(WALL - 10 * n, f"path {n}", "no answer", {}, "dead") for n in range(7, 0, -1)]
    said = why(peer(FIRST, SECOND), *moves)
    assert said.suggestion is not None
    assert said.suggestion.startswith("the path changed 7 times in 10 min")
    assert said.changes == tuple(moves[-5:])
    old = [msgspec.structs.replace(move, at=move.at - 3600) for move in moves]
    assert why(peer(FIRST, SECOND), *old).suggestion is None


def test_what_a_relay_does_not_reach_is_no_matter_of_udp() -> None:
    relayed = path(FIRST, kind="relay", remote="203.0.113.5:443")
    silent = msgspec.structs.replace(
        peer(relayed, connected=False), endpoint="203.0.113.5:443", by_relay=True, paths=()
    )
    never = msgspec.structs.replace(silent, last_handshake_age_s=None, recovery="unreachable")
    for one in (silent, never):
        said = why(one)
        assert "relay 203.0.113.5:443" in said.now
        assert "relay 203.0.113.5:443" in str(said.suggestion)
        assert "UDP" not in str(said.suggestion)


def test_words_of_a_path() -> None:
    assert path_words(path(kind="relay", uplink=None)) == "by relay 198.51.100.2:51820"
    assert figures(path(rtt_ms=None, loss_tx=None, loss_rx=None)) == ""
    assert [span(seconds) for seconds in (0.4, 119, 120, 7200, 172800)] == [
        "0 s",
        "119 s",
        "2 min",
        "2 h",
        "2 days",
    ]
