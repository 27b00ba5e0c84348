"""Small checkpoints as transformers writes them, and ways to change their files."""

import json

import torch
from mixture_models import DEEPSEEK, LLAMA4, VOCAB, hugging_face
from safetensors.torch import load_file, save_file
from transformers import Llama4Config, Llama4ForConditionalGeneration, LlamaConfig, LlamaForCausalLM

LENGTH = 40


def llama(tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=80,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=tied,
            initializer_range=0.2,
        )
    ).eval()


def multimodal() -> Llama4ForConditionalGeneration:
    text = hugging_face(LLAMA4)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "vision_output_dim": 16,
        "projector_input_dim": 16,
        "projector_output_dim": 16,
    }
    config = Llama4Config(text_config=text.config.to_dict(), vision_config=vision)
    model = Llama4ForConditionalGeneration(config).eval()
    model.language_model.load_state_dict(text.state_dict())
    return model


BUILDERS = {
    "llama": llama,
    "llama-tied": lambda: llama(tied=True),
    "deepseek": lambda: hugging_face(DEEPSEEK),
    "llama4": lambda: hugging_face(LLAMA4),
    "llama4-multimodal": multimodal,
}


def edit_config(folder, **changes) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, **changes}))


# What the published files say, in the words of the transformers that wrote them.
PUBLISHED_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "vocab_size": 128256,
}


def change_tensors(folder, change) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


NAME = "model.layers.1.mlp.up_proj.weight"
