"""Model presets, in one table. The numbers of each are in the file of its family.

To add a model, give its family's file (inference_benchmark/model/families) another preset and this
table another line; a new family is one more such file.
"""

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.families import FAMILIES, deepseek_v3, llama, llama4, mistral, qwen3
from inference_benchmark.model.family import Family

# fmt: off
MODELS: dict[str, ModelConfig] = {
    # name             family: its file has the numbers               total    active layers  hidden   vocab   context
    "llama3.1-8b":     llama.PRESETS["llama3.1-8b"],             #   8.03 B    8.03 B     32    4096  128256    131072
    "llama3.1-70b":    llama.PRESETS["llama3.1-70b"],            #  70.55 B   70.55 B     80    8192  128256    131072
    "llama3.1-405b":   llama.PRESETS["llama3.1-405b"],           # 405.85 B  405.85 B    126   16384  128256    131072
    "llama3.2-1b":     llama.PRESETS["llama3.2-1b"],             #   1.24 B    1.24 B     16    2048  128256    131072
    "llama2-7b":       llama.PRESETS["llama2-7b"],               #   6.74 B    6.74 B     32    4096   32000      4096
    "llama2-13b":      llama.PRESETS["llama2-13b"],              #  13.02 B   13.02 B     40    5120   32000      4096
    "llama2-70b":      llama.PRESETS["llama2-70b"],              #  68.98 B   68.98 B     80    8192   32000      4096
    "open-llama-3b":   llama.PRESETS["open-llama-3b"],           #   3.43 B    3.43 B     26    3200   32000      2048
    "llama-tiny":      llama.PRESETS["llama-tiny"],              #   0.01 B    0.01 B      4     512    1000      8192
    "mistral-7b":      mistral.PRESETS["mistral-7b"],            #   7.25 B    7.25 B     32    4096   32768     32768
    "qwen3-8b":        qwen3.PRESETS["qwen3-8b"],                #   8.19 B    8.19 B     36    4096  151936     40960
    "deepseekv3-670b": deepseek_v3.PRESETS["deepseekv3-670b"],   # 671.03 B   37.55 B     61    7168  129280    163840
    "llama4-scout":    llama4.PRESETS["llama4-scout"],           # 107.77 B   17.17 B     48    5120  202048  10485760
    "llama4-maverick": llama4.PRESETS["llama4-maverick"],        # 400.71 B   17.18 B     48    5120  202048   1048576
}
# fmt: on


def register_family(family: Family) -> None:
    """Make a family's presets known by their names, and its checkpoints by their architectures."""
    FAMILIES[family.name] = family
    MODELS.update(family.presets)
