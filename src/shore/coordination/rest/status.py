"""How the server is."""

from shore.coordination.rest.route import Asked, Route
from shore.wire.server import ServerStatus


async def status(asked: Asked) -> ServerStatus:
    """Say how the server is."""
    return asked.mesh.status()


ROUTES = (Route("GET", "/status", "read", status, ServerStatus),)
