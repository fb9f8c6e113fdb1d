"""Floor 1: the vocabulary, as frozen values. No IO, no clock, no behaviour beyond validation."""
