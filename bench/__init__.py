"""Measurements against real peers on the same machine, in pairs, as ratios."""
