"""Modules that the first second has no use for, imported beside the loop.

A brain that comes after a `kill -9` should have a data plane and a handshake under way before anything else.
The libraries for netlink, DNS and the control link take several times as long to import as all of Shore; so
whoever needs one of them asks for it here. One thread imports them, in the order in which they were asked
for, while the loop waits for the data plane and the network.
"""

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_importing = ThreadPoolExecutor(1, "import")


async def imported(module: str) -> Any:
    """The module, once it is there. Raises ImportError."""
    return await asyncio.get_running_loop().run_in_executor(_importing, importlib.import_module, module)
