"""Expectations are judged by the pings after their instant; the page is whole, and stands alone."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from shore.lab.net import LabFailed
from shore.lab.pinger import Pings
from shore.lab.plan import Expectation
from shore.lab.report import drawing, latest, load, page, store, table
from shore.lab.scenario import Mark, Report, Run, Timeline, judge, longest_silence
from shore.lab.selfcheck import Finding

# 10 pings a second for 10 s at 20 ms; lost from 3.0 to 3.9, and one at 7.0 that is late.
LINE = Timeline(
    "a <to> b",
    Pings(tuple((n / 10, None if 30 <= n < 40 else 0.5 if n == 70 else 0.02) for n in range(100))),
)


def report(*, right: bool = True) -> Report:
    verdicts = tuple(judge(Expectation("a <to> b", lost_most=11 if right else 3), [LINE]))
    marks = (Mark("black-hole on dsl", 3.0, 4.0),)
    run = Run("shore", 10.0, (LINE,), marks, verdicts, (), "" if right else "/kept/here")
    return Report("two & two", 7, 0.0, (Finding("dsl", "loss", "0.0%", "0.0%", True),), (run,))


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        (Expectation("a <to> b", lost_most=11), [("lost <= 11", "11 of 100 lost", True)]),
        (Expectation("a <to> b", lost_most=10), [("lost <= 10", "11 of 100 lost", False)]),
        (Expectation("a <to> b", after_s=5, lost_most=1), [("lost <= 1", "1 of 50 lost", True)]),
        (Expectation("a <to> b", lost_least=12), [("lost >= 12", "11 of 100 lost", False)]),
        (Expectation("a <to> b", gap_most_s=1), [("silence <= 1 s", "1.00 s", True)]),
        (Expectation("a <to> b", share_most=0.1), [("share lost <= 0.1", "0.110", False)]),
        (Expectation("a <to> b", rtt_most_ms=25), [("RTT <= 25 ms", "20.0 ms", True)]),
        (Expectation("a <to> b", after_s=11, lost_most=5), [("lost <= 5", "0 of 0 lost", False)]),
    ],
)
def test_an_expectation_is_judged(expectation: Expectation, said: list[tuple[str, str, bool]]) -> None:
    assert [(each.asked, each.found, each.right) for each in judge(expectation, [LINE])] == said


def test_a_silence_to_the_end_counts_to_the_last_ping() -> None:
    assert longest_silence([(0.0, 0.01), (1.0, None), (2.0, None), (3.0, None)], 0.3) == 2.0
    assert longest_silence([(0.0, 0.01)], 0.3) == 0.0


def test_the_table_names_what_did_not_hold() -> None:
    assert "shore      a <to> b  11 of 100  20.0 ms     1.00 s" in table(report())
    assert "FAILED: shore, a <to> b: lost <= 3: 11 of 100 lost" in table(report(right=False))
    assert "kept: /kept/here" in table(report(right=False))


def test_the_page_stands_alone_and_is_escaped() -> None:
    text = page(report(right=False))
    assert not re.search(r"(src|href)=", text)
    assert "two &amp; two" in text
    assert "a <to> b" not in text
    ET.fromstring(text.replace("<!doctype html>", "").replace('<meta charset="utf-8">', ""))


def test_the_drawing_has_every_ping_and_every_fault() -> None:
    drawn = ET.fromstring(drawing(report().runs[0], LINE, 30.0))
    lost, answered = (path.attrib["d"].count("M") for path in drawn.iter("{http://www.w3.org/2000/svg}path"))
    assert (lost, answered) == (11, 89)
    bands = list(drawn.iter("{http://www.w3.org/2000/svg}title"))
    assert [band.text for band in bands] == ["black-hole on dsl, 3.0 to 4.0 s"]


def test_a_report_is_stored_and_found_again(tmp_path: Path) -> None:
    store(report(), tmp_path / "one")
    assert load(latest(tmp_path)) == report()
    with pytest.raises(LabFailed, match="there is no report in"):
        latest(tmp_path / "none")
    (tmp_path / "one" / "report.json").write_text("{")
    with pytest.raises(LabFailed, match="is no report"):
        load(tmp_path / "one")
