"""Publication: content hashes, the publication record's making, and one module per target (now: a DuckDB file)."""
