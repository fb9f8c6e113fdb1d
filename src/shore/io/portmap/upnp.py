"""A port by UPnP IGD, for gateways that know neither PCP nor NAT-PMP.

SSDP asks the gateway alone, and a description that lies anywhere else is not read: in a network that somebody
else shares, any machine may say that it is a router.
"""

import asyncio
import ipaddress
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from async_upnp_client.aiohttp import AiohttpRequester
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.exceptions import UpnpActionError, UpnpError
from async_upnp_client.profiles.igd import IgdDevice
from async_upnp_client.search import async_search

from shore.io.portmap.gateways import Gateway

SEARCH = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
SSDP_PORT = 1900
SEARCH_WITHIN = 2
ASK_WITHIN = 5
LEASE = timedelta(hours=2)
AGAIN = 600.0
TRIES = 4
CONFLICT, PERMANENT_ONLY = 718, 725
EPHEMERAL = (32768, 60999)
NAME = "shore"


class NoGateway(Exception):
    """There is no UPnP router to ask."""


async def keep(
    gateway: Gateway, port: int, tell: Callable[[str | None], None], stays: Callable[[], bool]
) -> None:
    """Hold a mapping, told each time that it changes, until cancelled; return where there is no UPnP.

    At the end it is given back unless it `stays`.
    """
    try:
        router = await _find(gateway)
    except NoGateway:
        return
    client = ipaddress.IPv4Address(gateway.client)
    external = port
    try:
        while True:
            try:
                external = await _map(router, client, port, external)
                address = await router.async_get_external_ip_address()
            except (UpnpError, TimeoutError):
                tell(None)
                return
            tell(f"{address}:{external}" if address else None)
            await asyncio.sleep(LEASE.total_seconds() / 2)
    finally:
        if not stays():
            await _unmap(router, external)


async def _find(gateway: Gateway) -> IgdDevice:
    locations: list[str] = []

    async def seen(headers: Any) -> None:
        location = str(headers.get("location", ""))
        if urlsplit(location).hostname == gateway.address:
            locations.append(location)

    try:
        await async_search(
            seen,
            timeout=SEARCH_WITHIN,
            search_target=SEARCH,
            source=(gateway.client, 0),
            target=(gateway.address, SSDP_PORT),
        )
        for location in dict.fromkeys(locations):
            factory = UpnpFactory(AiohttpRequester(ASK_WITHIN), non_strict=True)
            return IgdDevice(await factory.async_create_device(location), None)
    except (UpnpError, OSError, TimeoutError) as error:
        raise NoGateway(str(error)) from None
    raise NoGateway("nobody answered")


async def _map(router: IgdDevice, client: ipaddress.IPv4Address, port: int, external: int) -> int:
    """Returns the port outside. Raises UpnpError."""
    lease = LEASE
    for _ in range(TRIES):
        try:
            await router.async_add_port_mapping(
                remote_host=ipaddress.IPv4Address(0),
                external_port=external,
                protocol="UDP",
                internal_port=port,
                internal_client=client,
                enabled=True,
                description=NAME,
                lease_duration=lease,
            )
        except UpnpActionError as error:
            if error.error_code == PERMANENT_ONLY and lease:
                lease = timedelta(0)
            elif error.error_code == CONFLICT:
                external = random.randint(*EPHEMERAL)  # noqa: S311 (no secret)
            else:
                raise
        else:
            return external
    raise UpnpError("every port that we tried is somebody else's")


async def _unmap(router: IgdDevice, external: int) -> None:
    try:
        async with asyncio.timeout(ASK_WITHIN):
            await router.async_delete_port_mapping(ipaddress.IPv4Address(0), external, "UDP")
    except (UpnpError, TimeoutError):
        # It runs out by itself.
        return
