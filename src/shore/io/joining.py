"""Join a network: from a token to a netmap on disk, with which a tunnel can be brought up.

The link that is opened here ends with the netmap; the tunnel's brain opens its own. A join that fails leaves
nothing, unless the server may know our keys by then: those are kept, and the next try goes on with them.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shore.core import member_events as on
from shore.core.actions import Announce
from shore.core.membership import Membership
from shore.io import identity as kept
from shore.io.control import ControlLink
from shore.io.identity import Identity, Network
from shore.io.links import read_taken
from shore.wire import signing
from shore.wire.token import Token


class NotJoined(Exception):
    """Why this machine is no member. One sentence, with the next step."""


async def join(token: Token, asked: Network, within: float, say: Callable[[str], None]) -> Identity:
    """Enrol as `asked` and keep what comes. Raises NotJoined, OSError, Damaged."""
    known = kept.read()
    if known is not None and (known.held is not None or known.network.root_hash != token.root):
        raise NotJoined(
            "this machine is in a network already: `shore up` resumes it, `shore logout` leaves it"
        )
    is_old = known is not None
    if known is None:
        known = kept.draw(asked)
    else:
        # What it heard of its network, and the name of its tunnel, stay.
        again = {each: getattr(asked, each) for each in ("name", "addresses", "proxy", "advertised")}
        network = msgspec.structs.replace(known.network, **again)
        known = msgspec.structs.replace(known, network=network)
    trial = _Trial(known, token, say, avoid=await read_taken())
    trial.is_known = is_old
    try:
        async with asyncio.timeout(within):
            return await trial.run()
    except TimeoutError:
        raise NotJoined(trial.late(within)) from None
    finally:
        if not trial.is_known:
            kept.forget()


async def leave(identity: Identity, within: float) -> bool:
    """Ask the server to forget this machine. Returns whether it did."""
    trial = _Trial(identity, None, lambda _said: None)
    try:
        async with asyncio.timeout(within):
            return await trial.leave()
    except (TimeoutError, NotJoined):
        return False


class _Trial:
    """One link, until its purpose is reached or failed."""

    def __init__(
        self,
        identity: Identity,
        token: Token | None,
        say: Callable[[str], None],
        avoid: tuple[str, ...] = (),
    ) -> None:
        admission = signing.public_of(Ed25519PrivateKey.from_private_bytes(kept.new_seed()))
        secret = None if token is None else token.secret
        self._identity = identity
        # Without the netmap: this machine wants the whole.
        member = msgspec.structs.replace(identity.member(admission, secret), avoid=avoid)
        self.membership = Membership(member, None, lambda: 0.0)
        self._say = say
        self._done: asyncio.Future[Identity | None] = asyncio.get_running_loop().create_future()
        self._standing: str | None = None
        self._reason: str | None = None
        self._leaving = token is None
        # Once the server may have heard of our keys, they are not forgotten any more.
        self.is_known = self._leaving

    async def run(self) -> Identity:
        """The identity with its netmap. Raises NotJoined."""
        joined = await self._talk(on.Begun(time.time()))
        assert joined is not None
        return joined

    async def leave(self) -> bool:
        """Whether the server let us go."""
        await self._talk(on.Begun(time.time()), on.LeaveAsked())
        return True

    async def _talk(self, *events: on.Event) -> Identity | None:
        async with asyncio.TaskGroup() as tasks:
            link = ControlLink(
                self.membership, tasks.create_task, self._perform, proxy=self._identity.network.proxy
            )
            for event in events:
                link.tell(event)
            try:
                await asyncio.wait({self._done})
            finally:
                link.close()
        return self._done.result()

    def late(self, within: float) -> str:
        """What was waited for."""
        addresses = " or ".join(self.membership.member.addresses)
        if self._standing == "pending":
            return (
                f"nobody approved this machine within {within:.0f} s: `shore nodes approve` on the server, "
                "then join again"
            )
        because = "" if self._reason is None else f" ({self._reason})"
        return (
            f"no server of this network at {addresses} within {within:.0f} s{because}: "
            "see that it runs and that its port is open"
        )

    def _perform(self, action: on.Action) -> None:
        if self._done.done():
            return
        match action:
            case on.Stand():
                self._stand(action)
            case on.TurnAway():
                self.is_known = self._standing != "unknown"
                self._fail(f"the server refused: {action.reason}: ask for a new `shore invite`")
            case on.Keep():
                kept.keep_netmap(action.held)
                self._identity = msgspec.structs.replace(self._identity, held=action.held)
            case on.Use() if not self._leaving:
                # The server may have had to give another name than was asked for.
                network = msgspec.structs.replace(self._identity.network, name=action.netmap.self.name)
                kept.keep_network(network)
                self._finish(msgspec.structs.replace(self._identity, network=network))
            case Announce():
                self._reason = action.why
                self._say(f"{action.what}: {action.why}")
            case _:
                pass

    def _stand(self, stand: on.Stand) -> None:
        member = self.membership.member
        previous, self._standing = self._standing, stand.standing
        network = msgspec.structs.replace(self._identity.network, network=stand.network, root=member.root)
        self._identity = msgspec.structs.replace(self._identity, network=network)
        if self._leaving:
            if stand.standing not in ("member", "expired"):
                self._finish(None)
            return
        # A stranger enrols now, and the answer may be lost.
        self.is_known = True
        if stand.standing in ("member", "pending", "expired"):
            kept.keep_network(network)
        if stand.standing == "pending" and previous != "pending":
            self._say("waiting for `shore nodes approve` on the server")
        if stand.standing == "revoked":
            self._fail("the server revoked this machine: `shore logout` here, then join with a new token")

    def _finish(self, identity: Identity | None) -> None:
        if not self._done.done():
            self._done.set_result(identity)

    def _fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(NotJoined(reason))
