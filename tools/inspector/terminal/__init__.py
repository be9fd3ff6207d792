"""The inspector in the terminal: stores, MDS folders, single shards, and documents."""
