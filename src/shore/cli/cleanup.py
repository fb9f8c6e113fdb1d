"""Remove what is left of tunnels whose processes are gone."""

import asyncio

from shore.io import host
from shore.io.process import kill
from shore.io.runtime import Runtime, tunnels


def cleanup() -> list[str]:
    """Clean up after every tunnel that nobody runs any more. Returns their names."""
    gone = []
    for name in tunnels():
        runtime = Runtime(name)
        if runtime.is_held("brain") or runtime.is_held("keeper"):
            continue
        running = runtime.read_running()
        if running is not None and running.plane is not None:
            kill(running.plane)
        if running is not None:
            asyncio.run(host.remove(name, runtime.host_journal))
        runtime.remove()
        gone.append(name)
    return gone
