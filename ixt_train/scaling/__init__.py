"""Scaling: arms over budgets and seeds, and how much compute one saves against another."""
