"""The node's side of the control link, as dialogues on virtual time."""

from dataclasses import dataclass

import msgspec
import pytest
from tests.core.netmaps import (
    LEASE,
    MACHINE,
    NETWORK,
    NOW,
    OWN_KEY,
    PEER_KEY,
    TRUST,
    netmap,
    own,
    peer,
    statement,
)

from shore.core import member_events as on
from shore.core.actions import Announce
from shore.core.membership import Member, Membership
from shore.model.desired import Candidate
from shore.model.netmap import Held, Signed
from shore.wire import control, signing
from shore.wire.token import secret_hash

PIN = bytes([7] * 32)
NONCE = bytes([8] * 32)
SECRET = bytes([9] * 32)
MEMBER = Member(
    machine_key=MACHINE,
    node_key=OWN_KEY,
    admission_key=bytes([12] * 32),
    root_hash=signing.fingerprint(TRUST.root),
    addresses=("192.0.2.1:443", "[2001:db8::1]:443"),
    network=NETWORK,
    root=TRUST.root,
)
STRANGER = msgspec.structs.replace(MEMBER, network=None, root=None, secret=SECRET, name="hub")
Said = on.Action | control.FromNode


@dataclass
class Dialogue:
    """A membership, its clock, and all that it said or did since last asked."""

    member: Member = MEMBER
    held: Held | None = None
    now: float = 100.0
    chance: float = 0.0

    def __post_init__(self) -> None:
        self.membership = Membership(self.member, self.held, lambda: self.chance)

    def tell(self, event: on.Event) -> list[Said]:
        return [_read(action) for action in self.membership.handle(event, self.now)]

    def hear(self, message: control.FromServer) -> list[Said]:
        return self.tell(on.Heard(control.encode(message)))

    def wait(self, seconds: float) -> list[Said]:
        """Let time pass, waking when it asks for it."""
        end, said = self.now + seconds, []
        while (deadline := self.membership.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            said += self.tell(on.Woke())
        self.now = end
        return said

    def wait_for_dial(self) -> list[Said]:
        deadline = self.membership.deadline()
        assert deadline is not None
        self.now = deadline
        return self.tell(on.Woke())

    def greet(self, standing: str = "member") -> list[Said]:
        self.tell(on.Begun(NOW))
        self.tell(on.Linked("192.0.2.1:443", PIN))
        self.hear(challenge())
        return self.hear(control.StandingIs(NETWORK, standing, NOW))

    def be_up(self) -> None:
        self.greet()
        self.hear(whole(netmap(peer())))


def challenge(*statements: Signed, root: bytes = TRUST.root) -> control.Challenge:
    named = statements or (statement("server", PIN), statement())
    return control.Challenge((1,), NONCE, root, named)


def whole(held: Held) -> control.NetmapIs:
    return control.NetmapIs(held.head, held.records)


def test_a_node_begins_by_dialling_and_says_who_it_is_to_a_server_that_the_root_names() -> None:
    talk = Dialogue()
    assert talk.tell(on.Begun(NOW)) == [on.Dial("192.0.2.1:443")]
    assert talk.tell(on.Linked("192.0.2.1:443", PIN)) == []
    (hello,) = talk.hear(challenge())
    assert isinstance(hello, control.Hello)
    content = control.hello_content(NONCE, PIN, "node", 1)
    assert signing.is_signed(hello.machine_key, signing.HELLO, content, hello.signature)


def test_a_server_of_another_root_hears_nothing() -> None:
    talk = Dialogue()
    talk.tell(on.Begun(NOW))
    talk.tell(on.Linked("192.0.2.1:443", PIN))
    ended, announced = talk.hear(challenge(root=bytes(32)))
    assert isinstance(ended, on.Unlink)
    assert isinstance(announced, Announce)


def test_a_connection_whose_pin_the_root_does_not_name_hears_nothing() -> None:
    for named in (statement("server", bytes(32)), statement("relay", PIN), statement("server", PIN, NOW - 1)):
        talk = Dialogue()
        talk.tell(on.Begun(NOW))
        talk.tell(on.Linked("192.0.2.1:443", PIN))
        assert talk.hear(challenge(named))[0] == on.Unlink(
            "the root key does not name the key of this connection"
        )


def test_a_stranger_with_a_token_enrols_once_and_presents_itself_when_it_is_a_member() -> None:
    talk = Dialogue(STRANGER)
    stand, enrol = talk.greet("unknown")
    assert stand == on.Stand("unknown", NETWORK)
    content = control.enrol_content(NONCE, secret_hash(SECRET), OWN_KEY, "hub")
    assert isinstance(enrol, control.Enrol)
    assert signing.is_signed(TRUST.machine_key, signing.ENROL, content, enrol.signature)
    assert talk.hear(control.StandingIs(NETWORK, "unknown", NOW)) == [on.Stand("unknown", NETWORK)]
    assert [type(said) for said in talk.hear(control.StandingIs(NETWORK, "member", NOW))] == [
        on.Stand,
        Announce,
        control.Present,
        control.Whereabouts,
    ]
    took = netmap(peer())
    keep, use = talk.hear(whole(took))
    assert keep == on.Keep(took, TRUST.root)
    assert isinstance(use, on.Use)


def test_a_member_presents_the_version_that_it_holds_signed_over_the_nonce() -> None:
    talk = Dialogue(held=netmap(version=(2, 5)))
    present = talk.greet()[2]
    assert isinstance(present, control.Present)
    assert (present.epoch, present.version) == (2, 5)
    content = control.present_content(NONCE, OWN_KEY, MEMBER.admission_key, 2, 5)
    assert signing.is_signed(TRUST.machine_key, signing.PRESENT, content, present.signature)


def test_a_node_starts_from_the_netmap_on_disk_without_any_server() -> None:
    talk = Dialogue(held=netmap(peer()))
    use, dial = talk.tell(on.Begun(NOW))
    assert isinstance(use, on.Use)
    assert [each.name for each in use.netmap.peers] == ["laptop"]
    assert dial == on.Dial("192.0.2.1:443")


def test_a_netmap_that_is_refused_changes_nothing_and_is_told_once() -> None:
    talk = Dialogue()
    talk.be_up()
    before = talk.membership.netmap
    wrong = netmap(peer(addresses=("8.8.8.8",)), version=(1, 2))
    (announced,) = talk.hear(whole(wrong))
    assert isinstance(announced, Announce)
    assert "outside of the mesh's ranges" in announced.why
    assert talk.hear(whole(wrong)) == []
    assert talk.membership.netmap is before


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        (netmap(peer(), version=(1, 9), signer=MACHINE), "the root key does not name"),
        (netmap(peer(), version=(1, 0)), "is not above"),
        (netmap(peer(), version=(0, 9)), "is not above"),
        (netmap(version=(1, 9), network=bytes(16)), "another network's"),
        (netmap(version=(1, 9), node=bytes(32)), "another node's"),
        (Held(netmap(version=(1, 9)).head, netmap(peer()).records), "not those that were signed"),
    ],
)
def test_a_hostile_netmap_is_refused_and_the_one_in_force_stays(hostile: Held, why: str) -> None:
    talk = Dialogue()
    talk.be_up()
    before = talk.membership.netmap
    (announced,) = talk.hear(whole(hostile))
    assert isinstance(announced, Announce)
    assert why in announced.why
    assert talk.membership.netmap is before
    assert [type(said) for said in talk.hear(whole(netmap(version=(1, 2))))] == [on.Keep, on.Use]


def test_a_delta_that_does_not_fit_asks_for_the_whole() -> None:
    talk = Dialogue()
    talk.be_up()
    (present,) = talk.hear(control.Delta(bytes(32), netmap(version=(1, 2)).head, {}))
    assert isinstance(present, control.Present)
    assert (present.epoch, present.version) == (0, 0)


def test_a_changed_key_of_a_known_name_is_announced() -> None:
    talk = Dialogue()
    talk.be_up()
    said = talk.hear(whole(netmap(peer(node_key=bytes([99] * 32)), version=(1, 2))))
    assert Announce("key of a peer changed", "laptop has another key now", bytes([99] * 32)) in said


def test_a_lease_that_runs_out_takes_the_peer_away_without_a_word_from_the_server() -> None:
    talk = Dialogue(held=netmap(peer()))
    talk.tell(on.Begun(NOW))
    talk.tell(on.Unlinked("refused"))
    used = [said for said in talk.wait(LEASE - NOW + 1) if isinstance(said, on.Use)]
    assert [use.time for use in used] == [LEASE]


def test_a_clock_that_goes_backwards_revives_nobody() -> None:
    talk = Dialogue(held=netmap(peer(lease_until=NOW - 5)))
    use = talk.tell(on.Begun(NOW - 1e6))[0]
    assert isinstance(use, on.Use)
    assert use.time == NOW


def test_a_lost_link_is_dialled_again_at_the_other_address_and_ever_later() -> None:
    talk = Dialogue(chance=0.999)
    talk.be_up()
    assert talk.tell(on.Unlinked("reset")) == [Announce("link to the server lost", "reset")]
    waits, dialled = [], []
    for _ in range(12):
        before = talk.now
        (dial,) = talk.wait_for_dial()
        dialled.append(dial)
        waits.append(talk.now - before)
        talk.tell(on.Unlinked("refused"))
    assert dialled[:2] == [on.Dial("[2001:db8::1]:443"), on.Dial("192.0.2.1:443")]
    assert all(0.2 <= wait <= 1.0 for wait in waits[:2])
    assert waits == sorted(waits)
    assert 29 < waits[-1] <= 30


def test_a_change_of_links_is_a_reason_to_dial_now() -> None:
    talk = Dialogue(chance=0.999)
    talk.tell(on.Begun(NOW))
    for _ in range(8):
        talk.tell(on.Unlinked("refused"))
        talk.wait_for_dial()
    talk.tell(on.Unlinked("refused"))
    assert [type(said) for said in talk.tell(on.LinksMoved())] == [on.Dial]


def test_silence_is_asked_about_and_ends_the_link() -> None:
    talk = Dialogue()
    talk.be_up()
    (ping,) = talk.wait(10)
    assert isinstance(ping, control.Ping)
    talk.now += 0.03
    talk.hear(control.Pong(ping.id))
    assert talk.membership.rtt_ms is not None
    assert 29 < talk.membership.rtt_ms < 31
    assert [type(said) for said in talk.wait(20)][:3] == [control.Ping, on.Unlink, Announce]


def test_whereabouts_that_change_at_once_are_one_message() -> None:
    talk = Dialogue()
    talk.be_up()
    places = [on.Moved((Candidate(f"192.0.2.9:{port}", "host"),), ("r1",)) for port in (1, 2, 3)]
    for place in places:
        assert talk.tell(place) == []
    assert talk.wait(0.2) == [control.Whereabouts(places[-1].candidates, ("r1",))]
    assert talk.tell(places[-1]) == []
    assert talk.wait(1) == []


def test_signals_go_both_ways_and_only_peers_are_heard() -> None:
    talk = Dialogue()
    talk.be_up()
    told = (Candidate("192.0.2.2:5", "host"),)
    assert talk.tell(on.SignalAsked(PEER_KEY, "call_me_maybe", told)) == [
        control.Signal(PEER_KEY, "call_me_maybe", told)
    ]
    assert talk.hear(control.Signal(PEER_KEY, "initiate")) == [on.Deliver(PEER_KEY, "initiate", ())]
    assert talk.hear(control.Signal(bytes(32), "initiate")) == []


def test_a_restart_is_said_once_there_is_a_link() -> None:
    talk = Dialogue(held=netmap(peer()))
    talk.tell(on.SignalAsked(None, "restarted"))
    assert talk.greet()[-1] == control.Signal(PEER_KEY, "restarted")


def test_words_to_all_wait_for_the_next_link_as_long_as_they_are_worth_saying() -> None:
    talk = Dialogue()
    talk.be_up()
    assert talk.tell(on.SignalAsked(None, "session_lost")) == [control.Signal(PEER_KEY, "session_lost")]
    talk.tell(on.Unlinked("reset"))
    for kind in ("session_lost", "initiate", "session_lost"):
        assert talk.tell(on.SignalAsked(None, kind)) == []
    assert talk.tell(on.SignalAsked(PEER_KEY, "call_me_maybe")) == []
    talk.now += 20
    assert talk.greet()[-2:] == [control.Signal(PEER_KEY, kind) for kind in ("session_lost", "initiate")]
    talk.tell(on.Unlinked("reset"))
    talk.tell(on.SignalAsked(None, "initiate"))
    talk.now += 40
    assert control.Signal(PEER_KEY, "initiate") not in talk.greet()


def test_a_link_that_does_not_answer_once_the_underlay_changed_is_given_up_and_words_go_by_the_next() -> None:
    talk = Dialogue()
    talk.be_up()
    (ping,) = talk.tell(on.LinksMoved())
    assert isinstance(ping, control.Ping)
    assert talk.tell(on.LinksMoved()) == []
    assert talk.tell(on.SignalAsked(None, "initiate")) == []
    here = (Candidate("192.0.2.9:1", "host"),)
    talk.tell(on.Moved(here, ()))
    ended = [said for said in talk.wait(3.0) if isinstance(said, on.Unlink)]
    assert ended == [on.Unlink("nothing was heard since the underlay changed")]
    assert talk.greet()[-1] == control.Signal(PEER_KEY, "initiate", here)


def test_a_link_that_answers_stays_though_the_underlay_changed() -> None:
    talk = Dialogue()
    talk.be_up()
    (ping,) = talk.tell(on.LinksMoved())
    assert isinstance(ping, control.Ping)
    talk.tell(on.SignalAsked(None, "initiate"))
    assert talk.hear(control.Pong(ping.id)) == [control.Signal(PEER_KEY, "initiate")]
    assert talk.wait(5.0) == []


def test_an_expired_node_key_is_drawn_anew_and_presented() -> None:
    talk = Dialogue(held=netmap())
    assert on.DrawKey() in talk.greet("expired")
    present = talk.tell(on.KeyDrawn(bytes([77] * 32)))[0]
    assert isinstance(present, control.Present)
    assert present.node_key == bytes([77] * 32)


def test_a_node_key_is_renewed_so_early_that_a_week_without_the_server_costs_nothing() -> None:
    talk = Dialogue()
    talk.greet()
    assert on.DrawKey() not in talk.hear(whole(netmap(own(expires_at=NOW + 9 * 86400))))
    due = own(expires_at=NOW + 7.9 * 86400)
    assert on.DrawKey() in talk.hear(whole(netmap(due, version=(1, 2))))
    assert on.DrawKey() not in talk.hear(whole(netmap(due, peer(), version=(1, 3))))


def test_a_node_key_becomes_due_though_no_netmap_comes() -> None:
    talk = Dialogue()
    talk.greet()
    talk.hear(whole(netmap(own(expires_at=NOW + 9 * 86400))))
    talk.now += 86300
    assert on.DrawKey() not in talk.hear(control.Pong(0))
    talk.now += 200
    assert on.DrawKey() in talk.hear(control.Pong(0))
    assert on.DrawKey() not in talk.hear(control.Pong(0))


def test_keys_that_live_for_less_than_that_are_renewed_once_a_day() -> None:
    talk = Dialogue()
    talk.greet()
    assert on.DrawKey() in talk.hear(whole(netmap(own(expires_at=NOW + 3600))))
    talk.now += 3600
    assert on.DrawKey() not in talk.hear(whole(netmap(own(expires_at=NOW + 7200), version=(1, 2))))


def test_admissions_are_used_with_the_netmap() -> None:
    talk = Dialogue()
    talk.be_up()
    admission = Signed(b"a", b"b", b"c")
    keep, use = talk.hear(control.Admissions({"r1": admission}))
    assert keep == on.KeepAdmissions(OWN_KEY, {"r1": admission})
    assert isinstance(use, on.Use)
    assert use.admissions == {"r1": admission}


def test_a_refusal_is_passed_on_in_printable_words() -> None:
    talk = Dialogue(STRANGER)
    talk.greet("unknown")
    assert talk.hear(control.Refused("token", "it was spent\x1b"))[0] == on.TurnAway("token", "it was spent?")


def test_leaving_is_signed_over_the_nonce() -> None:
    talk = Dialogue()
    talk.be_up()
    (leave,) = talk.tell(on.LeaveAsked())
    assert isinstance(leave, control.Leave)
    assert signing.is_signed(TRUST.machine_key, signing.LEAVE, NONCE, leave.signature)


def _read(action: on.Action) -> Said:
    if not isinstance(action, on.Say):
        return action
    message = msgspec.msgpack.decode(action.content, type=control.FromNode)
    assert control.from_node(action.content) == message
    return message
