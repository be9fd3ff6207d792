"""`make proof`: the effect, and what it costs, measured through the engine on two cores."""
