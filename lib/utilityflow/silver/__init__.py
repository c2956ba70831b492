"""Silver: one table per entity, typed, standardised and judged; pure functions from raw rows to conformed rows."""
