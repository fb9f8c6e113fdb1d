"""A brain's tie to the network that its tunnel belongs to, if any.

A tunnel from a file has no use for what a control link needs, and one of a mesh not in its first second: it
goes on with the peers that it had. So the membership is imported beside the loop, begun once the tunnel is
up, and begun again from the disk by the watchdog when something nobody thought of ends it. Meanwhile nothing
else stops: peers, paths and policy stay as they are in force.
"""

from typing import TYPE_CHECKING

from shore.io.later import imported
from shore.io.watchdog import Watchdog
from shore.node.brain import Brain

if TYPE_CHECKING:
    from shore.node.mesh import Mesh

NAME = "membership"


class Joined:
    """`run` it once the tunnel is up."""

    def __init__(self, brain: Brain, watchdog: Watchdog) -> None:
        self._brain = brain
        self._watchdog = watchdog
        self._mesh: Mesh | None = None
        # Peers should know, once, that no data plane of before lives.
        self._restarted = not brain.attached

    async def run(self) -> None:
        """Be a member for as long as this machine is one, or until cancelled."""
        config = self._brain.node.config
        if config is not None and config.mesh is not None:
            await self._watchdog.keep(NAME, self._live)

    def links_moved(self) -> None:
        """The underlay changed."""
        if self._mesh is not None:
            self._mesh.links_moved()

    async def _live(self) -> None:
        """One membership. The tunnel carries on without one that cannot be."""
        kept = await imported("shore.io.identity")
        joined = await imported("shore.node.mesh")
        try:
            identity = kept.read()
            if identity is None:
                raise kept.Damaged("this machine left its network: `shore down`")
            mesh = joined.Mesh(self._brain, identity, restarted=self._restarted)
        except (kept.Damaged, kept.NotTaken, OSError) as error:
            self._brain.announce("no membership", str(error))
            return
        self._mesh, self._restarted = mesh, False
        try:
            await mesh.run()
        finally:
            self._mesh = None
