"""Floor 3: the heart. Events and `now` go in, actions come out; no IO, no clock, no chance."""
