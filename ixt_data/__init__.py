"""The data engine of Introspective Training: critiques beside documents, versioned, queryable."""
