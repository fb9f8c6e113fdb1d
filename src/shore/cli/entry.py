"""Where `shore` begins.

systemd restarts a brain by `shore up NAME --foreground`, and packets may wait for it. Where a tunnel is to be
gone on with, nothing of the command line is needed for that: this process becomes the brain at once.
"""

import os
import sys

FOREGROUND = ("up", "--foreground")
# Another try would fail the same way.
REFUSED = 78


def main() -> None:
    """The brain of a tunnel that was left without one, else the command."""
    words = sys.argv[1:]
    if "NOTIFY_SOCKET" in os.environ and len(words) == 3 and (words[0], words[2]) == FOREGROUND:
        from shore.cli.start import NotStarted, go_on  # noqa: PLC0415

        try:
            go_on(words[1])
        except NotStarted as error:
            print(f"shore: {error}", file=sys.stderr)
            sys.exit(REFUSED)
    from shore.cli.main import main as command  # noqa: PLC0415

    command()
