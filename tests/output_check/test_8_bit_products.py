"""Products whose activations are rounded to 8 bits: the reference rounds likewise, and no farther."""

import pytest
import torch
from foreign_engines import INPUT, OUTPUT, fp32_decoder, prompts
from streaming import EagerStream

from inference_benchmark.output_check import reference
from inference_benchmark.output_check.reference import BLOCK_SIZE, Reference, rounded_to_8_bits
from inference_benchmark.output_check.stream import check_stream_before


def test_a_block_is_rounded_to_127ths_of_its_largest_value():
    x = torch.zeros(2, 2 * BLOCK_SIZE)
    x[0, :3] = torch.tensor([127.0, 1.4, -0.6])
    x[0, BLOCK_SIZE] = 0.3  # alone in its block, so exact
    rounded = rounded_to_8_bits(x)
    assert rounded[0, :3].tolist() == [127.0, 1.0, -1.0]
    assert rounded[0, BLOCK_SIZE] == x[0, BLOCK_SIZE]
    assert not rounded[1].any()


class Rounding(EagerStream):
    """Its linear layers get activations of 8 bits, or of fewer."""

    def generate(self, *arguments):
        with Reference(self.resources.decoder, rounds_activations=True).arithmetic():
            return super().generate(*arguments)

    def logits_of(self, *arguments):
        with Reference(self.resources.decoder, rounds_activations=True).arithmetic():
            return super().logits_of(*arguments)


def checked(products: str):
    decoder = fp32_decoder("llama3.2-1b", num_layers=2)
    engine = Rounding(decoder, 2, INPUT, OUTPUT)
    return check_stream_before(engine, decoder, [prompts(0), prompts(1)], products, OUTPUT)


def test_an_engine_that_rounds_passes_as_one_and_not_as_fp32():
    record = checked("q8")
    assert record["passed"], record["failures"]
    assert 0.003 < record["floor"] < 0.02
    assert not checked("fp32")["passed"]


@pytest.mark.parametrize("bits", [6, 5])
def test_one_that_rounds_to_fewer_bits_is_wrong(monkeypatch, bits):
    def coarse(x):
        blocks = x.unflatten(-1, (-1, BLOCK_SIZE))
        scales = blocks.abs().amax(dim=-1, keepdim=True) / (2 ** (bits - 1) - 1)
        return ((blocks / scales).round() * scales).flatten(-2)

    class Coarse(Rounding):
        def logits_of(self, *arguments):
            with monkeypatch.context() as patch:
                patch.setattr(reference, "rounded_to_8_bits", coarse)
                return super().logits_of(*arguments)

    decoder = fp32_decoder("llama3.2-1b", num_layers=2)
    engine = Coarse(decoder, 2, INPUT, OUTPUT)
    record = check_stream_before(engine, decoder, [prompts(0), prompts(1)], "q8", OUTPUT)
    assert not record["passed"]
