"""What the brain asks of the world outside: names, and connections to relays. What comes of it is an event.

While a full tunnel is up, both go past it: by the name servers that were in force before, and marked.
"""

from collections.abc import Callable

from shore.core import actions as do
from shore.core import events
from shore.io.dial import NotDialled, dial
from shore.io.proxy import surroundings
from shore.io.resolver import NotResolved
from shore.io.sockets import own_end
from shore.model.host import HostPlan
from shore.node.naming import addresses_of
from shore.node.openings import Openings


class Outside:
    """One brain's; `plan` is what is in force on the host, `proxy` a URL where one was chosen."""

    def __init__(
        self, plan: Callable[[], HostPlan | None], openings: Openings, proxy: Callable[[], str | None]
    ) -> None:
        self._plan = plan
        self._proxy = proxy
        self._openings = openings

    async def dial(self, action: do.DialRelay) -> events.Event:
        """Connect to a relay."""
        try:
            opened, name = await dial(
                action.addresses, action.mark, self._addresses, surroundings(self._proxy())
            )
        except NotDialled as error:
            return events.LinkDialFailed(action.relay, str(error))
        number = self._openings.add_link(opened)
        return events.LinkDialled(action.relay, number, name, own_end(opened))

    async def resolve(self, name: str) -> events.Event:
        """Ask for a name's addresses."""
        try:
            return events.NameResolved(name, await self._addresses(name))
        except NotResolved as error:
            return events.NameFailed(name, str(error))

    async def _addresses(self, name: str) -> tuple[str, ...]:
        return await addresses_of(name, self._plan())
