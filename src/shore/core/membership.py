"""The node's side of the control link (docs/protocol/control.md), sans-IO.

Life of a link: it is dialled; the server's challenge shows the root key and statements; if the root is ours
and a statement of it names the pin of this very connection, we say who we are; the server says what we are to
it; a stranger that has a join token enrols, a member presents itself. From then on netmaps come, and words
from peers. A link that ends is dialled again: soon, then ever later and by chance, at every known address in
turn. Nothing that happens to a link touches the netmap in force.

A link that was up while the underlay changed may lead nowhere any more, and nobody would be told: it is asked
at once, and given up if it does not answer soon. What is to be said to all peers waits for the next link, for
as long as it is worth saying.

Time is that of our clock or the newest that the network's key has signed, whichever is later: a clock that
went backwards revives no lease. What is refused is announced once per reason, until something is taken.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore.core import member_events as on
from shore.core.actions import Announce
from shore.core.mesh import changed_keys, lease_ends
from shore.core.netmap import NotFitting, NotTaken, Trust, received, verified, version_of
from shore.model.netmap import Held, Netmap, Signed
from shore.wire import control, signing
from shore.wire.control import SignalKind
from shore.wire.token import secret_hash

RETRY_FIRST = (0.2, 1.0)
RETRY_MOST = 30.0
MOST_DOUBLINGS = 8
# Whereabouts that change at once are one change.
COALESCE = 0.1
DIAL_WITHIN = 10.0
# What is said to all peers and found no link is stale after so long; a restart never is.
WORD_FOR = 30.0
# A link that is in doubt has so long to answer.
DOUBT_FOR = 3.0
# A node key is renewed so long before it expires, as the server may be away for a week; once a day at most,
# as a network's keys may live for less.
RENEW_AHEAD = 8 * 86400.0
RENEW_INTERVAL = 86400.0


class Member(msgspec.Struct, frozen=True):
    """What a node knows of itself and of its network before any link.

    `root_hash` is the root key's fingerprint; `network` and `root` are None until the first link. With a
    `secret` a stranger enrols as `name`; `avoid` are prefixes that are in use around it.
    """

    machine_key: Ed25519PrivateKey
    node_key: bytes
    admission_key: bytes
    root_hash: bytes
    addresses: tuple[str, ...]
    name: str = ""
    secret: bytes | None = None
    network: bytes | None = None
    root: bytes | None = None
    avoid: tuple[str, ...] = ()


class Membership:
    """One node's tie to its coordination server. `chance` is uniform in [0, 1)."""

    def __init__(self, member: Member, held: Held | None, chance: Callable[[], float]) -> None:
        """`held` is the netmap from disk. Raises NotTaken if it does not prove itself."""
        self.member = member
        self.netmap: Netmap | None = None
        self.address: str | None = None
        self.local: str | None = None
        self.state: Literal["up", "down"] = "down"
        self.since = 0.0
        self.rtt_ms: float | None = None
        self._held = held
        self._chance = chance
        self._machine = signing.public_of(member.machine_key)
        self._wall = (0.0, 0.0)
        self._signed = (0.0, 0.0)
        self._statements: tuple[Signed, ...] = ()
        self._pin = b""
        self._nonce: bytes | None = None
        self._tries = 0
        self._next = 0
        self._dial_at: float | None = None
        self._dialled_at: float | None = None
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        self._moved = on.Moved((), ())
        self._told: on.Moved | None = None
        self._tell_at: float | None = None
        self._lease_at: float | None = None
        self._admissions: dict[str, Signed] = {}
        self._doubted_at: float | None = None
        # Words to all peers, each with the time until which it is worth saying.
        self._waiting: dict[SignalKind, tuple[on.SignalAsked, float]] = {}
        self._refusals: set[str] = set()
        self._leaving = False
        self._enrolled = False
        # When the node key is to be replaced, and when that was begun last.
        self._renew_at: float | None = None
        self._drawn_at = float("-inf")
        self._actions: list[on.Action] = []
        if held is not None:
            self.netmap = verified(held, self._trust(), (), None)
            self._signed = (self.netmap.head.issued_at, 0.0)

    def handle(self, event: on.Event, now: float) -> list[on.Action]:
        """Take one event; return what is to be done, in order."""
        self._actions = []
        match event:
            case on.Begun():
                self._wall = (event.wall, now)
                self._signed = (self._signed[0], now)
                self.since = self._dial_at = now
                if self.netmap is not None:
                    self._use(now)
            case on.Linked():
                self._linked(event, now)
            case on.Heard():
                self._heard(event.content, now)
            case on.Unlinked():
                self._unlinked(event.reason, now)
            case on.ClockRead():
                self._wall = (event.wall, now)
            case on.Moved():
                self._moved_to(event, now)
            case on.SignalAsked():
                self._signal(event, now)
            case on.KeyDrawn():
                self.member = msgspec.structs.replace(self.member, node_key=event.node_key)
                self._present(version_of(self._held), now)
            case on.LinksMoved():
                self._links_moved(now)
            case on.LeaveAsked():
                self._leaving = True
                self._leave()
            case on.Woke():
                pass
        self._keep_time(now)
        return self._actions

    def deadline(self) -> float | None:
        """When to call again with Woke; None if there is nothing to wait for."""
        waits = [self._dial_at, self._tell_at, self._lease_at]
        if self.state == "up":
            waits.append(self._renew_at)
        if self._is_linked():
            waits += [self._quiet_since() + control.QUIET_S, self._heard_at + control.DEAD_S]
            if self._doubted_at is not None:
                waits.append(self._doubted_at + DOUBT_FOR)
        elif self._dialled_at is not None:
            waits.append(self._dialled_at + DIAL_WITHIN)
        return min((wait for wait in waits if wait is not None), default=None)

    def time(self, now: float) -> float:
        """The later of our clock and the newest signed time, in Unix seconds."""
        return max(wall + now - read_at for wall, read_at in (self._wall, self._signed))

    def addresses(self) -> tuple[str, ...]:
        """Where the server may be: what the netmap says, then what the token said."""
        known = () if self.netmap is None else self.netmap.server.addresses
        return tuple(dict.fromkeys((*known, *self.member.addresses)))

    # The link.

    def _keep_time(self, now: float) -> None:
        if self._dial_at is not None and self._dial_at <= now:
            addresses = self.addresses()
            self.address = addresses[self._next % len(addresses)]
            self._dial_at, self._dialled_at = None, now
            self._do(on.Dial(self.address))
        linked = self._is_linked()
        if linked and now >= self._heard_at + control.DEAD_S:
            self._drop(f"nothing was heard for {control.DEAD_S:.0f} s", now)
        elif linked and self._doubted_at is not None and now >= self._doubted_at + DOUBT_FOR:
            self._drop("nothing was heard since the underlay changed", now)
        elif linked and now >= self._quiet_since() + control.QUIET_S:
            self._ping(now)
        elif self._dialled_at is not None and now >= self._dialled_at + DIAL_WITHIN:
            self._drop(f"no answer within {DIAL_WITHIN:.0f} s", now)
        if self._tell_at is not None and self._tell_at <= now:
            self._tell_at = None
            self._tell_whereabouts()
        if self._lease_at is not None and self._lease_at <= now and self.netmap is not None:
            self._use(now)
        if self.state == "up" and self._renew_at is not None and self._renew_at <= now:
            self._drawn_at, self._renew_at = now, now + RENEW_INTERVAL
            self._do(on.DrawKey())

    def _links_moved(self, now: float) -> None:
        self._tries = 0
        if self._dial_at is not None:
            self._dial_at = now
        elif self._is_linked() and self._doubted_at is None:
            self._doubted_at = now
            self._ping(now)

    def _linked(self, event: on.Linked, now: float) -> None:
        self._pin, self.address, self.local = event.pin, event.address, event.local
        self._heard_at, self._pinged_at = now, None

    def _unlinked(self, reason: str, now: float) -> None:
        if self._dial_at is not None:
            return
        if self.state == "up":
            self._do(Announce("link to the server lost", reason))
            self.since = now
        elif self._tries == 0:
            self._do(Announce("no link to the server", f"{self.address}: {reason}"))
        self.state, self.rtt_ms = "down", None
        self._nonce, self._told, self._dialled_at, self._tell_at = None, None, None, None
        self._doubted_at = None
        least, most = RETRY_FIRST
        # The first round over the addresses is quick.
        rounds = max(self._tries + 1 - len(self.addresses()), 0)
        wait = least + (most - least) * self._chance()
        if rounds:
            wait = min(most * 2 ** min(rounds, MOST_DOUBLINGS), RETRY_MOST) * self._chance()
        self._tries += 1
        self._next += 1
        self._dial_at = now + max(wait, least)

    def _drop(self, why: str, now: float) -> None:
        self._do(on.Unlink(why))
        self._unlinked(why, now)

    def _is_linked(self) -> bool:
        return self._nonce is not None or self.state == "up"

    def _quiet_since(self) -> float:
        return max(self._heard_at, self._pinged_at or 0.0)

    def _ping(self, now: float) -> None:
        self._pinged_at = now
        self._say(control.Ping(int(now * 1000) & 0x7FFFFFFF))

    # What the server says.

    def _heard(self, content: bytes, now: float) -> None:
        try:
            message = control.from_server(content)
        except control.BrokenMessage as error:
            self._drop(f"the server said what cannot be read: {error}", now)
            return
        self._heard_at = now
        self._doubted_at = None
        self._say_waiting(now)
        match message:
            case control.Challenge():
                self._challenged(message, now)
            case control.StandingIs():
                self._stands(message, now)
            case control.NetmapIs() | control.Delta() if self.state == "up":
                self._take(message, now)
            case control.Admissions() if self.state == "up":
                self._admissions = dict(message.admissions)
                self._do(on.KeepAdmissions(self.member.node_key, self._admissions))
                if self.netmap is not None:
                    self._use(now)
            case control.Signal() if self.netmap is not None:
                if any(peer.node_key == message.peer for peer in self.netmap.peers):
                    self._do(on.Deliver(message.peer, message.kind, message.candidates))
            case control.Refused():
                self._refused(message, now)
            case control.Ping():
                self._say(control.Pong(message.id))
            case control.Pong() if self._pinged_at is not None:
                self.rtt_ms = (now - self._pinged_at) * 1e3
                self._pinged_at = None
            case _:
                pass

    def _challenged(self, challenge: control.Challenge, now: float) -> None:
        member = self.member
        if signing.fingerprint(challenge.root) != member.root_hash:
            self._drop("this is another network's server: its root key is not ours", now)
            return
        keys = signing.named_keys(
            challenge.statements, challenge.root, member.network, "server", self.time(now)
        )
        if self._pin not in keys:
            self._drop("the root key does not name the key of this connection", now)
            return
        if control.VERSION not in challenge.versions:
            self._drop("the server speaks no version of ours: install the same Shore on both", now)
            return
        self.member = msgspec.structs.replace(member, root=challenge.root)
        self._nonce, self._statements = challenge.nonce, challenge.statements
        content = control.hello_content(challenge.nonce, self._pin, "node", control.VERSION)
        self._say(control.Hello(self._machine, signing.sign(member.machine_key, signing.HELLO, content)))

    def _stands(self, message: control.StandingIs, now: float) -> None:
        if self._nonce is None:
            return
        if self.member.network is None:
            self.member = msgspec.structs.replace(self.member, network=message.network)
        if message.network != self.member.network:
            self._drop("the server is another network's", now)
            return
        self._do(on.Stand(message.standing, message.network))
        match message.standing:
            case "member":
                self._go_up(now)
            case "expired":
                self._do(on.DrawKey())
                self._go_up(now, present=False)
            case "unknown" if self.member.secret is not None and not self._enrolled:
                self._enrol(self._nonce, self.member.secret)
            case "unknown" | "revoked" if self.netmap is not None:
                self._refuse(f"the server says that this machine is {message.standing}")
            case _:
                pass

    def _enrol(self, nonce: bytes, secret: bytes) -> None:
        member = self.member
        self._enrolled = True
        content = control.enrol_content(nonce, secret_hash(secret), member.node_key, member.name)
        signature = signing.sign(member.machine_key, signing.ENROL, content)
        self._say(control.Enrol(secret, member.node_key, member.name, signature, member.avoid))

    def _go_up(self, now: float, *, present: bool = True) -> None:
        if self.state != "up":
            self.since = now
            self._do(Announce("link to the server", f"{self.address}"))
        self.state, self._tries, self._dialled_at = "up", 0, None
        if self._leaving:
            self._leave()
            return
        if present:
            self._present(version_of(self._held), now)

    def _present(self, version: tuple[int, int], now: float) -> None:
        member = self.member
        if self._nonce is None:
            return
        parts = (member.node_key, member.admission_key, *version)
        content = control.present_content(self._nonce, *parts)
        self._say(control.Present(*parts, signing.sign(member.machine_key, signing.PRESENT, content)))
        self._tell_whereabouts()
        self._say_waiting(now)

    def _take(self, message: control.NetmapIs | control.Delta, now: float) -> None:
        known = None if self._held is None or self.netmap is None else (self._held, self.netmap)
        try:
            held, netmap = received(message, known, self._trust(), self._statements, self.time(now))
        except NotFitting:
            self._present((0, 0), now)
            return
        except NotTaken as error:
            self._refuse(f"a netmap was refused: {error}")
            return
        before = self.netmap
        self._held, self.netmap = held, netmap
        self._refusals.clear()
        self._signed = max(self._signed, (netmap.head.issued_at, now))
        if before is not None:
            for peer in changed_keys(before, netmap):
                self._do(Announce("key of a peer changed", f"{peer.name} has another key now", peer.node_key))
        self._do(on.Keep(held, self._trust().root))
        self._use(now)

    def _refused(self, message: control.Refused, now: float) -> None:
        reason = "".join(letter if letter.isprintable() else "?" for letter in message.reason)
        self._do(on.TurnAway(message.code, reason))
        self._refuse(f"the server refused: {reason}")
        if message.code == "closing":
            self._drop(reason, now)

    def _refuse(self, why: str) -> None:
        if why not in self._refusals:
            self._refusals.add(why)
            self._do(Announce("not taken from the server", why))

    def _use(self, now: float) -> None:
        assert self.netmap is not None
        time = self.time(now)
        ends = lease_ends(self.netmap, time)
        self._lease_at = None if ends is None else now + ends - time
        expires_at = self.netmap.self.expires_at
        self._renew_at = None
        if expires_at is not None:
            due = now + expires_at - RENEW_AHEAD - time
            self._renew_at = max(due, self._drawn_at + RENEW_INTERVAL)
        self._do(on.Use(self.netmap, self._admissions, time))

    # What this node says.

    def _moved_to(self, moved: on.Moved, now: float) -> None:
        self._moved = moved
        if moved != self._told and self._told is not None and self._tell_at is None:
            self._tell_at = now + COALESCE

    def _tell_whereabouts(self) -> None:
        if self.state == "up" and self._moved != self._told:
            self._told = self._moved
            moved = self._moved
            self._say(control.Whereabouts(moved.candidates, moved.relays, moved.prefixes))

    def _signal(self, asked: on.SignalAsked, now: float) -> None:
        if self.state == "up" and self._doubted_at is None:
            self._say_signal(asked)
        elif asked.peer is None:
            until = float("inf") if asked.kind == "restarted" else now + WORD_FOR
            self._waiting[asked.kind] = (asked, until)

    def _say_waiting(self, now: float) -> None:
        if self.state == "up":
            waiting, self._waiting = self._waiting, {}
            for asked, until in waiting.values():
                if now <= until:
                    self._say_signal(asked)

    def _say_signal(self, asked: on.SignalAsked) -> None:
        everybody = () if self.netmap is None else tuple(peer.node_key for peer in self.netmap.peers)
        # A node that moved learns where it may be found after it knows that it moved.
        candidates = self._moved.candidates if asked.kind == "initiate" else asked.candidates
        for peer in everybody if asked.peer is None else (asked.peer,):
            self._say(control.Signal(peer, asked.kind, candidates))

    def _leave(self) -> None:
        if self.state == "up" and self._nonce is not None:
            self._say(control.Leave(signing.sign(self.member.machine_key, signing.LEAVE, self._nonce)))

    def _trust(self) -> Trust:
        member = self.member
        assert member.network is not None
        assert member.root is not None
        return Trust(member.network, member.root, self._machine)

    def _say(self, message: control.FromNode) -> None:
        self._do(on.Say(control.encode(message)))

    def _do(self, action: on.Action) -> None:
        self._actions.append(action)
