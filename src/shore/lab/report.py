"""A report for people: a table in the terminal, and one HTML page that needs nothing beside it.

Each timeline is drawn as one SVG: a dot for each answered ping at its RTT, a red line for each lost one, a
shaded band for each fault. Every candidate has the same axes, so that they compare at a glance.
"""

import html
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shore.lab.net import LabFailed
from shore.lab.scenario import Report, Run, Timeline, longest_silence

JSON, PAGE = "report.json", "report.html"
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 150, 52, 8, 22
HEAD = ("candidate", "ping", "lost", "median RTT", "longest silence")
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1020px;padding:0 1em}
body{color:#1c2430;background:#fff}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}h3{font-size:1em;margin:1.2em 0 .3em}
table{border-collapse:collapse;margin:.5em 0}
td,th{padding:.25em .9em .25em 0;text-align:left;vertical-align:top}
th{font-weight:600;border-bottom:1px solid #cbd2dc}.no{color:#b3261e;font-weight:600}.yes{color:#1f7a3d}
svg{width:100%;height:auto;background:#f7f8fa}text{font:11px system-ui,sans-serif;fill:#5a6575}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e4e8ee}svg{background:#1c222b}th{border-color:#3a4250}}
"""


def store(report: Report, directory: Path) -> Path:
    """Write the report and its page; the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / JSON).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    (directory / PAGE).write_text(page(report))
    return directory


def load(directory: Path) -> Report:
    """Read a report. Raises LabFailed."""
    try:
        return msgspec.json.decode((directory / JSON).read_bytes(), type=Report)
    except OSError:
        raise LabFailed(f"{directory} has no {JSON}") from None
    except msgspec.DecodeError as error:
        raise LabFailed(f"{directory / JSON} is no report: {error}") from None


def latest(root: Path) -> Path:
    """The directory of the newest report. Raises LabFailed."""
    found = sorted(root.glob(f"*/{JSON}"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise LabFailed(f"there is no report in {root}: `shore lab run FILE` makes one")
    return found[-1].parent


def table(report: Report) -> str:
    """The report as lines of text."""
    rows: list[tuple[str, ...]] = [HEAD]
    rows += [row(run, line) for run in report.runs for line in run.timelines]
    lines = [f"{report.name}, seed {report.seed}", "", *columns(rows)]
    wrong = [each for each in report.findings if not each.right]
    lines += ["", f"self-check: {len(report.findings) - len(wrong)} of {len(report.findings)} as asked"]
    lines += [
        f"  WRONG {each.subject}, {each.what}: asked {each.asked}, found {each.found}" for each in wrong
    ]
    for run in report.runs:
        for verdict in run.verdicts:
            word = "held" if verdict.right else "FAILED"
            lines += [f"{word}: {run.candidate}, {verdict.ping}: {verdict.asked}: {verdict.found}"]
        if run.kept:
            lines += [f"kept: {run.kept}"]
    return "\n".join(lines)


def row(run: Run, line: Timeline) -> tuple[str, ...]:
    """What one ping of one candidate came to."""
    pings = line.pings
    silence = longest_silence(list(pings.sent), pings.usual_rtt() + 0.25)
    lost = f"{pings.lost()} of {len(pings.sent)}"
    return run.candidate, line.name, lost, f"{pings.usual_rtt() * 1000:.1f} ms", f"{silence:.2f} s"


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of words, aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]


def page(report: Report) -> str:
    """One HTML document, styles and drawings within."""
    word = "as expected" if report.is_right() else "not as expected"
    body = [f"<h1>{html.escape(report.name)}</h1><p>seed {report.seed}; {_mark(word, report.is_right())}</p>"]
    rows = [row(run, line) for run in report.runs for line in run.timelines]
    body += [_html_table(HEAD, rows)]
    for run in report.runs:
        body += [f"<h2>{html.escape(run.candidate)}</h2>"]
        for line in run.timelines:
            body += [f"<h3>{html.escape(line.name)}</h3>", drawing(run, line, _highest(report))]
        verdicts = [(each.ping, each.asked, _mark(each.found, each.right)) for each in run.verdicts]
        body += [_html_table(("ping", "expected", "found"), verdicts, safe=2)] if verdicts else []
        body += [f"<p>Captures and diary: {html.escape(run.kept)}</p>"] if run.kept else []
    checks = [(f.subject, f.what, f.asked, _mark(f.found, f.right)) for f in report.findings]
    if checks:
        body += ["<h2>Self-check</h2>", _html_table(("of", "what", "asked", "found"), checks, safe=3)]
    title = html.escape(report.name)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def drawing(run: Run, line: Timeline, highest_ms: float) -> str:
    """A timeline as SVG."""
    right, floor = WIDTH - 24, HEIGHT - BOTTOM

    def x(at: float) -> float:
        return LEFT + (right - LEFT) * min(max(at / run.seconds, 0.0), 1.0)

    def y(ms: float) -> float:
        return floor - (floor - TOP) * min(ms / highest_ms, 1.0)

    parts = []
    for mark in run.marks:
        width = max(2.0, x(mark.until) - x(mark.at))
        band = (
            f'<rect x="{x(mark.at):.1f}" y="{TOP}" width="{width:.1f}" height="{floor - TOP}" fill="#e8a33d"'
        )
        span = f"{mark.at:.1f} to {mark.until:.1f} s"
        parts += [f'{band} fill-opacity=".28"><title>{html.escape(mark.called)}, {span}</title></rect>']
        parts += [f'<text x="{x(mark.at) + 3:.1f}" y="{TOP + 11}">{html.escape(mark.called)}</text>']
    limit = line.pings.usual_rtt() + 0.25
    lost = [x(at) for at, rtt in line.pings.sent if at >= 0 and (rtt is None or rtt > limit)]
    path = "".join(f"M{at:.1f} {TOP + 16}V{floor}" for at in lost)
    parts += [f'<path d="{path}" stroke="#c93a32" stroke-width="1.2" stroke-opacity=".75"/>'] if lost else []
    dots = [
        (x(at), y(rtt * 1000)) for at, rtt in line.pings.sent if at >= 0 and rtt is not None and rtt <= limit
    ]
    path = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in dots)
    parts += [f'<path d="{path}" stroke="#2463ad" stroke-width="2.6" stroke-linecap="round"/>']
    for ms in (0.0, highest_ms / 2, highest_ms):
        parts += [f'<text x="{LEFT - 6}" y="{y(ms) + 4:.1f}" text-anchor="end">{ms:.0f} ms</text>']
    for part in range(6):
        at = run.seconds * part / 5
        parts += [f'<text x="{x(at):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{at:.3g} s</text>']
    name = html.escape(f"{run.candidate}: {line.name}: {len(lost)} lost")
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{"".join(parts)}</svg>'


def _highest(report: Report) -> float:
    """The top of all RTT axes in ms; outliers do not flatten the rest."""
    tops = [1.0]
    for run in report.runs:
        for line in run.timelines:
            limit = line.pings.usual_rtt() + 0.25
            answered = sorted(rtt * 1000 for _, rtt in line.pings.sent if rtt is not None and rtt <= limit)
            tops += [answered[int(len(answered) * 0.98)] * 1.2] if answered else []
    return max(tops)


def _mark(text: str, right: bool) -> str:
    return f'<span class="{"yes" if right else "no"}">{"✓" if right else "✗"} {html.escape(text)}</span>'


def _html_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, safe: int = -1) -> str:
    """A table; the column `safe` is HTML already."""
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = [
        "".join(f"<td>{cell if n == safe else html.escape(cell)}</td>" for n, cell in enumerate(each))
        for each in rows
    ]
    return f"<table><tr>{cells}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
