"""Where endpoints and relays are looked for, in a mesh."""

import pytest

from shore.io.resolver import NotResolved
from shore.model.host import HostPlan, SplitNames
from shore.node.naming import addresses_of

MESH = HostPlan("shore0", (), 1420, (), names=SplitNames("100.64.0.1", "shore.internal", ("shore.internal",)))


@pytest.mark.parametrize("name", ["hub.shore.internal", "Hub.SHORE.internal.", "shore.internal"])
async def test_no_way_to_a_peer_leads_through_the_mesh(name: str) -> None:
    with pytest.raises(NotResolved, match="leads through the mesh"):
        await addresses_of(name, MESH)


async def test_every_other_name_is_asked_of_the_host() -> None:
    assert "127.0.0.1" in await addresses_of("localhost", MESH)
    assert "127.0.0.1" in await addresses_of("localhost", None)
    with pytest.raises(NotResolved) as refused:
        await addresses_of("notshore.internal.invalid", MESH)
    assert "mesh" not in str(refused.value)
