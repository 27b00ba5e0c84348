"""What the two commands do: a session from its plan to its report, several sessions, what fits."""
