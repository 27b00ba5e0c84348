"""One session: plan, prepare, measure in turn, record."""
