"""Lab tests need namespaces. Without the right to make them they skip loudly, unless SHORE_LAB=required."""

import os
import shutil
import signal

import pytest

from shore.lab.net import Host, LabFailed

# A shell starts what it puts into the background deaf to SIGINT, and that is inherited; our tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOOLS = ("ip", "nft", "wg", "ping", "conntrack", "wireguard-go")


@pytest.fixture(scope="session", autouse=True)
def _rights() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    reason = f"missing: {', '.join(missing)}" if missing else None
    if reason is None:
        host = Host("try")
        try:
            host.make()
        except LabFailed as error:
            reason = f"no right to make network namespaces ({error}): use scripts/with-rights"
        finally:
            host.remove()
    if reason is None:
        return
    if os.environ.get("SHORE_LAB") == "required":
        pytest.fail(reason)
    pytest.skip(f"LAB SKIPPED: {reason}")
