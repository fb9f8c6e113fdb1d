"""A server as it runs, and databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.coordination.postgresql import Cluster, cluster
from tests.coordination.serving import serving

from shore.coordination.found import found


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """PostgreSQL as it runs."""
    with cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    made: Cluster = request.getfixturevalue("postgresql")
    return made.database()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """STATE of a network whose server runs; RUNTIME is STATE/run."""
    monkeypatch.setenv("SHORE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SHORE_RUNTIME_DIR", str(tmp_path / "run"))
    found(tmp_path, "home", ("192.0.2.1",), 443, 3478)
    with serving(tmp_path):
        yield tmp_path
