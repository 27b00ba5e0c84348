"""Numbers as people read them. SI units inside, converted here and nowhere else."""

import math

UNKNOWN = "-"
NOTHING_PUBLISHED = "No published measurements yet."
_SMALLEST = 1e-4  # of which all digits are shown


def milliseconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else significant(seconds * 1e3)


def seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def gigabytes(count: float | None) -> str:
    return UNKNOWN if count is None else f"{count / 1e9:,.2f}"


def megabytes(count: float | None) -> str:
    return UNKNOWN if count is None else f"{count / 1e6:,.1f}"


def rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}" if value >= 100 else significant(value)


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share * 100:.0f}%"


def significant(value: float, digits: int = 4) -> str:
    """Four significant digits without an exponent: 3.618, 36.18, 361.8, 3,618, 0.003618."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value))) + 1
    if 0.1 > abs(value) >= _SMALLEST:
        return f"{value:.{digits - magnitude}f}"
    magnitude = max(0, magnitude)
    return f"{value:,.{max(0, digits - magnitude)}f}"


def with_interval(value: float | None, interval: list[float] | None, scale: float = 1.0) -> str:
    """3.923±0.001: the interval's farther end, rounded up to the digits of the value."""
    if value is None:
        return UNKNOWN
    text = significant(value * scale)
    if interval is None:
        return text
    half = max(interval[1] - value, value - interval[0]) * scale
    digits = len(text.partition(".")[2])
    steps = half * 10**digits
    return f"{text}±{math.ceil(steps - 1e-6) / 10**digits:,.{digits}f}"


def dollars(amount: float | None) -> str:
    return UNKNOWN if amount is None else f"{amount:.3g}"


def dollar_range(cost: dict | None) -> str:
    """min - max, with the median between; one number where all agree."""
    if cost is None:
        return UNKNOWN
    if cost["min"] == cost["max"]:
        return dollars(cost["median"])
    return f"{dollars(cost['min'])} - {dollars(cost['median'])} - {dollars(cost['max'])}"


def count(value: float) -> str:
    """8.03 B, 70.6 B, 12.4 M."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g} {suffix}"
    return f"{value:,.0f}"
