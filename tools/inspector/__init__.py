"""Looking at a store: in the terminal, and in a browser."""
