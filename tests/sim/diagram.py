"""A run as a Mermaid sequence diagram: machines are columns, what they noted are notes, newest at the end."""

from tests.sim.world import World

MOST_LINES = 400


def draw(world: World, why: str) -> str:
    """The last few hundred notes of a run that ended with `why`."""
    lines = ["sequenceDiagram", "    autonumber"]
    lines += [f"    participant m{machine.number} as machine {machine.number}" for machine in world.machines]
    for at, number, text in world.notes[-MOST_LINES:]:
        words = text if isinstance(text, str) else text()
        clean = words.replace(";", ",").replace("#", "").replace("\n", " ")[:160]
        lines.append(f"    Note over m{number}: {at:.3f} {clean}")
    lines.append(f"    Note over m1: {why.replace(';', ',')}")
    return "\n".join(lines) + "\n"
