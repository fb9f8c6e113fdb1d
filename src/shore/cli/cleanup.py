"""Remove what is left of tunnels whose processes are gone.

One whose data plane carries on without a brain is no such tunnel: that is how `systemctl stop` leaves it.
"""

import asyncio

from shore.io import host
from shore.io.runtime import Runtime, tunnels


def cleanup() -> list[str]:
    """Clean up after every tunnel that nobody runs any more. Returns a sentence for each."""
    said = []
    for name in tunnels():
        runtime = Runtime(name)
        if runtime.is_held("brain") or runtime.is_held("keeper"):
            continue
        if runtime.has_plane:
            said.append(f"{name}: its data plane runs: `shore down {name}` ends it")
            continue
        if runtime.read_running() is not None:
            asyncio.run(host.remove(name, runtime.host_journal))
        runtime.remove()
        said.append(f"{name}: removed")
    return said
