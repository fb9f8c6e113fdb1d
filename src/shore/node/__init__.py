"""Floor 5: the brain of one tunnel and its keeper. Kept empty: the keeper's memory counts."""
