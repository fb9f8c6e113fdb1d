"""The unit file of `shore@NAME`, as it must read on this machine.

The file lies beside this module as a package of a distribution would install it; a `shore` that lives
elsewhere, in a virtual environment say, is named in its place.
"""

import sys
from importlib.resources import files
from pathlib import Path

PACKAGED = "/usr/bin/shore"


def unit_text() -> str:
    """shore@.service, with the command that prints it."""
    text = files("shore.cli").joinpath("shore@.service").read_text(encoding="utf-8")
    return text.replace(PACKAGED, str(_command()))


def _command() -> Path:
    """The `shore` of this environment: the one that runs, else the one beside our interpreter."""
    running = Path(sys.argv[0])
    return running.resolve() if running.name == "shore" else Path(sys.executable).with_name("shore")
