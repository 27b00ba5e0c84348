"""From records to results: summaries, speed-ups, validity."""
