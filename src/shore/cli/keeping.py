"""What `shore` keeps of the network that this machine is a member of."""

import msgspec

from shore.cli.asking import FAILED, NOT_RUNNING, fail, obtain
from shore.io import identity
from shore.io.identity import Identity
from shore.io.runtime import Runtime
from shore.wire import api


def member(says: str) -> Identity:
    """The membership that there is; without one, or without the right to read it, one sentence. `says` is
    what only root may say, `what this machine accepts`."""
    try:
        joined = identity.read()
    except identity.Damaged as error:
        fail(str(error), FAILED)
    except PermissionError:
        fail(f"only root may say {says}: run as root", FAILED)
    if joined is None:
        fail("this machine has joined no network: `shore up --join TOKEN`", NOT_RUNNING)
    return joined


def keep(joined: Identity, request: api.Request | None = None, **changes: object) -> Identity:
    """Change what is kept, and where the tunnel is up tell it by this request."""
    network = msgspec.structs.replace(joined.network, **changes)
    try:
        identity.keep_network(network)
    except OSError as error:
        fail(f"{error.filename}: {(error.strerror or '').lower()}: run as root", FAILED)
    if request is not None and Runtime(network.interface).is_held("brain"):
        obtain(network.interface, request)
    return msgspec.structs.replace(joined, network=network)
