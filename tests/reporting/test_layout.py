"""How labels that are too long for a table are broken, and that its numbers stay where they were."""

import pytest

from inference_benchmark.reporting.layout import TERMINAL, fitted, label_lines, pairs, wrap

LABELS = (
    "thunder:nvfuser,transformerengine+kernels+graphs b1 fp8+head",
    "thunder[no nvfuser]+graphs b1 d4096 4L EST",
    "inductor+graphs@my_own_model:build b128",
)


@pytest.mark.parametrize(
    ("label", "width", "lines"),
    [
        ("thunder+graphs b1", 17, ["thunder+graphs b1"]),
        ("thunder+graphs b1", 16, ["thunder+graphs", "b1"]),
        (
            LABELS[0],
            21,
            ["thunder:nvfuser,", "transformerengine", "+kernels+graphs b1", "fp8+head"],
        ),
        (LABELS[1], 20, ["thunder[no nvfuser]", "+graphs b1 d4096 4L", "EST"]),
        (LABELS[2], 20, ["inductor+graphs", "@my_own_model:build", "b128"]),
        ("eager@" + 12 * "x" + " b1", 8, ["eager", "@xxxxxxx", "xxxxx b1"]),  # no place to break at
        ("", 8, [""]),
    ],
)
def test_a_label_is_broken_where_its_parts_meet(label, width, lines):
    assert label_lines(label, width) == lines


def test_numbers_stand_beside_the_first_line_of_a_label():
    numbers = ["100.0±0.3", "10.00±0.02", "32%", "35.71", "1.52x faster", "valid"]
    headers = ["cell", "TTFT", "TBOT", "limit", "tok/s", "speed-up", "verdict"]
    text = fitted([[label, *numbers] for label in LABELS], headers, {"speed-up": 12})
    lines = text.splitlines()
    assert max(map(len, lines)) <= TERMINAL
    column = lines[0].index("TTFT") + len("TTFT")
    starts = [line for line in lines[2:] if "valid" in line]
    assert [line.split()[0] for line in starts] == [
        "thunder:nvfuser,",
        "thunder[no",
        "inductor+graphs",
    ]
    for line in starts:
        assert line[:column].endswith("100.0±0.3")
        assert " ".join(line.split()).endswith(" ".join(numbers))
    for line in set(lines[2:]) - set(starts):  # the rest of a label, and nothing else
        assert any(line.strip() in label for label in LABELS)
        assert len(line.rstrip()) < column


def test_flags_stay_whole_where_lines_end():
    for length in range(60, TERMINAL):
        line = f"{'x' * length} --num-iterations"
        assert "--num-iterations" in [
            word for part in wrap(line).splitlines() for word in part.split()
        ]
        assert "--num-iterations" in pairs([("cells", line)]).split()


def test_words_stay_whole_where_a_column_is_narrowed():
    numbers = ["10.08±6.92", "6.571±5.078", "134", "0.71x inconclusive", "2", "UNSUPPORTED"]
    headers = ["cell", "TTFT", "TBOT", "tok/s", "speed-up", "n", "verdict"]
    rows = [["transformers+static b1", *numbers], ["tinygrad b1", *numbers]]
    lines = fitted(rows, headers, {"speed-up": 12, "verdict": 10}).splitlines()
    assert max(map(len, lines)) <= TERMINAL
    assert [line.split()[-1] for line in lines if line.split()[0] == "tinygrad"] == ["UNSUPPORTED"]


def test_headers_are_broken_where_nothing_else_is_left_to_narrow():
    numbers = ["100.00±0.30", "10.000±0.020", "32%", "36,000", "213", "1.52x faster", "UNVERIFIED"]
    headers = ["cell", "prefill", "TBOT", "limit", "prefill tok/s", "decode tok/s", "speed-up"]
    headers.append("verdict")
    text = fitted([[label, *numbers] for label in LABELS], headers, {"speed-up": 12, "verdict": 10})
    first, second, rule, row, *_ = text.splitlines()
    assert max(map(len, text.splitlines())) <= TERMINAL
    assert first.split() == ["cell", "prefill", "TBOT", "limit", "prefill", "decode"] + headers[-2:]
    assert second.split() == ["tok/s", "tok/s"]
    assert set(rule) == {"-", " "}
    place = second.index("tok/s") + len("tok/s")
    assert row[:place].endswith("36,000")
    assert first[:place].endswith("prefill")


def test_values_stand_above_their_intervals_where_headers_are_not_enough():
    numbers = ["1,466±340", "3,065±1,225", "4,521±1,571", "0.08976", "0.002848", "0.97x slower"]
    headers = ["cell", "forward", "backward", "ffn", "TFLOP/s", "TB/s", "speed-up", "verdict"]
    rows = [[label, *numbers, "UNVERIFIED"] for label in ("eager b1 s32", "inductor b1 s32")]
    lines = fitted(rows, headers, {"speed-up": 12}).splitlines()
    assert max(map(len, lines)) <= TERMINAL
    first, second = lines[2], lines[3]
    assert first.split()[2:8] == ["1,466", "3,065", "4,521", "0.08976", "0.002848", "0.97x"]
    assert "±340 ±1,225 ±1,571" in " ".join(second.split())
