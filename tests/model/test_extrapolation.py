"""The affine rule by hand: which depths say how long the full model takes, and with what weight."""

from dataclasses import replace

import pytest

from inference_benchmark.errors import RequestError
from inference_benchmark.model.extrapolation import Extrapolation, choose, pairs
from inference_benchmark.model.parts import DenseFeedForward
from inference_benchmark.models import MODELS

LLAMA = MODELS["llama3.1-8b"]


@pytest.mark.parametrize(
    ("name", "depths", "weight"),
    [
        ("llama3.1-8b", (4, 8), 7.0),  # 4 + 7 * 4 = 32
        ("llama3.1-8b", (1, 2), 31.0),
        ("llama3.1-405b", (4, 8), 30.5),  # 4 + 30.5 * 4 = 126
        ("deepseekv3-670b", (4, 8), 14.25),  # dense 3, 3; mixtures 1 + 14.25 * 4 = 58
        ("deepseekv3-670b", (3, 13), 5.8),  # mixtures 0 + 5.8 * 10 = 58
        ("llama4-scout", (4, 12), 5.5),  # 3 + 5.5 * 6 = 36 chunked, 1 + 5.5 * 2 = 12 without RoPE
        ("llama4-maverick", (4, 8), 11.0),
    ],
)
def test_weights_by_hand(name, depths, weight):
    extrapolation = choose(MODELS[name], depths)
    assert extrapolation.weight == weight
    assert extrapolation.record() == {
        "from_layers": list(depths),
        "to_layers": MODELS[name].num_layers,
        "weight": weight,
    }


def test_a_time_that_is_fixed_and_per_layer_is_met_exactly():
    extrapolation = Extrapolation((4, 8), 32)
    assert extrapolation.estimate(10 + 4 * 3, 10 + 8 * 3) == 10 + 32 * 3


@pytest.mark.parametrize(
    ("name", "depths", "words"),
    [
        ("deepseekv3-670b", (1, 2), "none of its 58 layers with latent attention and 256 experts;"),
        ("deepseekv3-670b", (1, 2), "--extrapolate 3 4 would do"),
        ("deepseekv3-670b", (2, 10), "1 of its 3 layers with latent attention and a dense"),
        ("deepseekv3-670b", (2, 10), "--extrapolate 3 10 would do"),
        ("llama4-scout", (2, 3), "none of its 12 layers with attention without RoPE and"),
        ("llama4-scout", (4, 6), "--extrapolate 4 8 would do"),
        ("llama4-scout", (5, 9), "out of proportion"),  # one period, but what remains is no such
        ("llama4-maverick", (4, 6), "between 4 and 6 layers llama4-maverick has none"),
        ("llama3.1-8b", (8, 4), "the first depth has to be the smaller one"),
        ("llama3.1-8b", (4, 4), "the first depth has to be the smaller one"),
        ("llama3.1-8b", (4, 32), "has 32 layers; --extrapolate 4 8 would do"),
        ("llama3.1-8b", (4, 99), "or leave it out to measure all of them"),
        ("llama3.1-8b", (4,), "two depths or none, not 1"),
        ("llama3.1-8b", (4, 8, 12), "two depths or none, not 3"),
    ],
)
def test_depths_that_say_too_little_are_refused_in_words(name, depths, words):
    with pytest.raises(RequestError) as caught:
        choose(MODELS[name], depths)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_default_depths_are_4_and_8_or_the_least_that_will_do(name):
    expected = (1, 2) if name == "llama-tiny" else (4, 8)
    assert choose(MODELS[name], ()).from_layers == expected


def test_a_model_without_two_such_depths_is_refused():
    odd_one_out = (DenseFeedForward(64), DenseFeedForward(128), DenseFeedForward(64))
    model = replace(LLAMA, num_layers=3, feed_forward=odd_one_out)
    assert list(pairs(model)) == []
    with pytest.raises(RequestError, match="no two depths would do"):
        choose(model, (1, 2))
    with pytest.raises(RequestError, match="no two depths of llama3.1-8b"):
        choose(model, ())


def test_kinds_that_are_there_in_the_right_share_will_do_although_they_alternate():
    kinds = (DenseFeedForward(64), DenseFeedForward(128)) * 3
    model = replace(LLAMA, num_layers=6, feed_forward=kinds)
    assert list(pairs(model)) == [(2, 4)]
