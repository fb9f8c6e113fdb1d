"""`python -m shore.dataplane`: a process without rights around the native threads of one tunnel.

The listening socket is descriptor 3; SHORE_PLANE_USER is `UID:GID` to become. Everything else comes
over the socket. Imports are kept few: what is imported here is memory in every tunnel.
"""

import os
import sys

from shore import _native

LISTENER = 3


def main() -> int:
    """Give up all rights, then carry packets until told to stop."""
    user, group = map(int, os.environ.pop("SHORE_PLANE_USER", "65534:65534").split(":"))
    seed = int.from_bytes(os.urandom(8), "little")
    _native.confine(user, group)
    _native.run(LISTENER, os.getuid(), seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
