"""A reason for doubt, and the rows of a report, for the tests of reports."""

REASON = {"code": "drift", "severity": "suspect", "message": "It drifts.", "remedy": "Wait."}


def summary_rows(text: str) -> list[str]:
    """Of the summary table, without its title, headers and rule."""
    lines = text.split("summary (medians")[1].splitlines()
    after_rule = next(number for number, line in enumerate(lines) if line.startswith("---"))
    return lines[after_rule + 1 :]
