"""`python -m shore.node.unprivileged UID:GID PACKAGE[,MODULE...] WORD...`: PACKAGE's command without rights.

Everything that the command needs is imported first: interpreter and packages may lie where only root reads.
Then the process becomes the user for good, as a data plane does, and keeps nothing but its descriptors.
"""

import importlib
import sys

from shore import _native


def main() -> None:
    """Become the user, then the command."""
    whom, modules, *words = sys.argv[1:]
    package, *more = modules.split(",")
    command = importlib.import_module(f"{package}.__main__")
    for module in more:
        importlib.import_module(module)
    user, group = map(int, whom.split(":"))
    _native.confine(user, group)
    sys.argv = [package, *words]
    sys.exit(command.main())


if __name__ == "__main__":
    main()
