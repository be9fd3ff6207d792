"""The `rules` critic: document statistics turned into a critique that names the defects."""
