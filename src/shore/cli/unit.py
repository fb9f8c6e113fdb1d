"""The unit files of `shore@NAME`, `shore-server` and `shore-relay`, as they must read on this machine.

They lie beside this module: `shore@.service` as a package of a distribution would install it, and one text
for both programs of a network. A `shore` that lives elsewhere, in a virtual environment say, is named in its
place.
"""

import sys
from importlib.resources import files
from pathlib import Path

PACKAGED = "/usr/bin/shore"
FURTHER = {
    "on the machine that `shore up --new` founded it on": "on a machine that `shore relay --join` made one",
    "server/network.json": "relay/relay.json",
    "shore server start --foreground PROGRAM": "shore relay start --foreground",
    "`shore server stop`": "`shore relay stop`",
}


def unit_text(program: str | None = None, *, further: bool = False) -> str:
    """shore@.service, or shore-PROGRAM.service, with the command that prints it.

    `further`: of the relay of a machine that joined as one, without a server beside it.
    """
    file = "shore@.service" if program is None else "shore-program.service"
    text = files("shore.cli").joinpath(file).read_text(encoding="utf-8")
    if further:
        for words, instead in FURTHER.items():
            text = text.replace(words, instead)
    return text.replace("PROGRAM", program or "").replace(PACKAGED, str(_command()))


def _command() -> Path:
    """The `shore` of this environment: the one that runs, else the one beside our interpreter."""
    running = Path(sys.argv[0])
    return running.resolve() if running.name == "shore" else Path(sys.executable).with_name("shore")
