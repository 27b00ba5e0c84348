"""What is timed: one file per workload, and the session that measures cells of it in turn."""
