"""For the curator: near-duplicates, and what critics complain of."""
