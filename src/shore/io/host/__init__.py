"""The host around a tunnel: what Shore sets there, and how it is all taken back.

Addresses and routes live and die with the device. They carry Shore's own routing protocol number, so
that nothing that somebody else put there is ever touched.
"""

from shore.io.host.device import HostFailed, apply_device
from shore.io.tun import delete_tun
from shore.model.host import HostPlan

__all__ = ["HostFailed", "apply", "remove"]


async def apply(plan: HostPlan) -> None:
    """Bring the host to the plan; what is there already is left alone. Raises HostFailed."""
    if plan.full_tunnel is not None:
        raise HostFailed(
            "AllowedIPs with /0 needs a full tunnel, which Shore cannot do yet: set `Table = off`"
        )
    if plan.dns_servers or plan.dns_search:
        raise HostFailed("Shore cannot set DNS yet: remove the DNS line")
    await apply_device(plan)


async def remove(device: str) -> None:
    """Take back everything; nothing happens where there is nothing."""
    delete_tun(device)
