"""One network and its relay, as a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.relay.network import Network, Running, running


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


@pytest.fixture
def relayed(network: Network) -> Iterator[Running]:
    with running(network) as made:
        yield made
