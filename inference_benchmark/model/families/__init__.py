"""Model families: one file each, with presets, config.json reader and checkpoint names."""

from inference_benchmark.model.families import deepseek_v3, llama, llama4, mistral, qwen3
from inference_benchmark.model.family import Family

FAMILIES: dict[str, Family] = {
    file.FAMILY.name: file.FAMILY for file in (llama, mistral, qwen3, deepseek_v3, llama4)
}
