"""Arithmetic of sizes, for the host: Triton has it too, but may be missing."""


def cdiv(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def power_of_2_at_most(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def next_power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()
