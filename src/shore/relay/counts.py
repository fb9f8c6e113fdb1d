"""What a relay counts, in Prometheus' text format. Names begin with `shore_relay_`."""

from collections import Counter

Labels = tuple[tuple[str, str], ...]

HELP = {
    "connections": ("gauge", "TCP connections by what they are: new, spliced, stream."),
    "streams_admitted": ("gauge", "Streams of admitted nodes."),
    "bound_addresses": ("gauge", "UDP addresses that answered their challenge."),
    "frames_total": ("counter", "Frames by direction."),
    "bytes_total": ("counter", "Bytes of datagrams received, of frames sent."),
    "dropped_total": ("counter", "Datagrams that were not forwarded, by reason."),
    "refused_total": ("counter", "Proofs and connections that were refused, by reason."),
    "closed_total": ("counter", "Streams that ended, by reason."),
    "udp_total": ("counter", "UDP messages, by kind."),
    "failures_total": ("counter", "Parts that failed and were begun again, by part."),
    "server_away_total": ("counter", "Connections that found no coordination server."),
}


class Counts:
    """Counters by name and labels; gauges are given when they are asked for."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Labels]] = Counter()

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """`name` is one of HELP, without the prefix."""
        self._counts[name, tuple(labels.items())] += by

    def of(self, name: str, **labels: str) -> int:
        """How often so far."""
        return self._counts[name, tuple(labels.items())]

    def text(self, measured: dict[tuple[str, Labels], int]) -> str:
        """The whole page; `measured` is what others count."""
        values = {**self._counts, **measured}
        lines = []
        for name, (kind, words) in HELP.items():
            lines += [f"# HELP shore_relay_{name} {words}", f"# TYPE shore_relay_{name} {kind}"]
            for (each, labels), value in sorted(values.items()):
                if each == name:
                    inner = ",".join(f'{key}="{text}"' for key, text in labels)
                    lines.append(f"shore_relay_{name}{'{' + inner + '}' if inner else ''} {value}")
        return "\n".join(lines) + "\n"
