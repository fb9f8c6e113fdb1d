"""How many handshakes there were, from readings of the latest one's time.

A reading is what `wg show` calls latest-handshake, taken at least every ten seconds; 0 is none yet. Most
implementations give a Unix time, which stands still between handshakes. boringtun-cli gives an age, which
grows by a second each second and falls with a handshake; its Unix time, where it gives one, moves by a second
while nothing happens. A jump, either way, is what all have in common.
"""

from collections.abc import Sequence
from itertools import pairwise


def handshakes(readings: Sequence[int], least_jump: int = 10) -> int:
    """Count the first one, and each jump of more than `least_jump` seconds from reading to reading."""
    known = [reading for reading in readings if reading]
    return bool(known) + sum(abs(at - before) > least_jump for before, at in pairwise(known))
