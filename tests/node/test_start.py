"""What a brain reads before it begins: nothing that its first second has no use for."""

import os
import subprocess
import sys

LATER = ("pyroute2", "dns", "aiohttp", "cryptography", "async_upnp_client")


def test_a_brain_begins_without_the_libraries_that_take_longer_than_all_of_shore() -> None:
    program = f"import sys, shore.node.__main__; print([name for name in {LATER} if name in sys.modules])"
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    words = [sys.executable, "-S", "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=around)
    assert done.stdout == "[]\n"
