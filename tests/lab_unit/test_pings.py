"""What is read from a list of pings."""

from shore.lab.pinger import Pings


def test_a_reply_that_came_after_the_reply_to_a_later_ping_was_overtaken() -> None:
    assert Pings(((0.0, 0.12), (0.05, 0.02), (0.10, None), (0.15, 0.02))).overtaken() == 1


def test_replies_in_order_overtake_nothing() -> None:
    assert Pings(((0.0, 0.05), (0.05, 0.05), (0.10, 0.01))).overtaken() == 0
