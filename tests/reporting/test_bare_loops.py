"""Figures of a session beside those of a bare loop, by hand."""

from scripted import steady, whole_session

from inference_benchmark.reporting.bare_loops import bare_loop_table

LOOP = {
    "engine": "eager",
    "model": "llama3.1-8b",
    "input_length": 4,
    "output_length": 5,
    "batch_size": 1,
    "ttft_s": 0.08,
    "tbot_s": 0.0125,
    "runs": {"first_s": [0.08] * 2, "all_s": [0.13] * 2},
}


def rows(results, loops) -> list[dict[str, str]]:
    named = {str(number): loop for number, loop in enumerate(loops)}
    lines = bare_loop_table(results, named).splitlines()
    header, _, *body = ([part.strip() for part in line.strip("|").split("|")] for line in lines)
    assert header[4:11] == [
        "loop",
        "TTFT ms",
        "bare loop",
        "ratio",
        "TBOT ms",
        "bare loop",
        "ratio",
    ]
    return [[*row] for row in body]


def test_a_loop_stands_beside_the_cell_that_did_the_same_work(monkeypatch, capsys):
    run = whole_session(monkeypatch, capsys)
    flags = ("--num-iterations", "6", "--warmup-iterations", "0")
    _, _, saved = run({"eager b1": {"script": steady(0.1, 0.01)}}, "--mode", "eager", *flags)
    config = saved["config"]
    lengths = {name: config[name] for name in ("input_length", "output_length")}
    other_batch = LOOP | lengths | {"batch_size": 32}
    other_length = LOOP | lengths | {"input_length": lengths["input_length"] + 1}
    not_streamed = LOOP | lengths | {"streams": False, "ttft_s": None, "tbot_s": None}
    loops = [LOOP | lengths, not_streamed, other_batch, other_length]
    paired_row, total_alone, *missing = rows([saved], loops)
    tokens = f"{lengths['input_length']} -> {lengths['output_length']}"
    assert paired_row[:4] == ["llama3.1-8b", "1", tokens, "eager"]
    # 0.1 / 0.08 and 0.01 / 0.0125
    assert paired_row[4:] == ["0", "100.0", "80.00", "1.250", "10.00", "12.50", "0.800", "6", "2"]
    assert total_alone[3:] == [
        "eager, not streamed",
        "1",
        "100.0",
        "-",
        "-",
        "10.00",
        "-",
        "-",
        "6",
        "2",
    ]
    for row in missing:
        assert row[5:] == ["-", "80.00", "-", "-", "12.50", "-", "-", "2"]
