"""A self-contained HTML report of a demo: no network, no JavaScript, light and dark."""
