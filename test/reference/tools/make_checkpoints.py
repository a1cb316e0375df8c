"""Reference data by Hugging Face transformers, for the tests of every model family.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make_checkpoints.py

Writes into test/reference/data, all of it committed, so that no test needs Python:
  <family>/config.json, model.safetensors   a tiny checkpoint of random weights
  <family>/expected.json                    logits and greedy tokens of that checkpoint, computed in float64
  published/transformers.json               what transformers makes of the published configs in published/configs.json
  versions.json                             the library versions that computed all this
"""

import contextlib
import json
import pathlib
import platform

import numpy
import safetensors
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, modeling_rope_utils

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"

SEQUENCE_LENGTH = 200  # beyond every window, in four KV blocks of 64
LOGIT_ROWS = [0, 6, 7, 63, 64, 127, 128, 199]
GREEDY_PROMPT_LENGTHS = [7, 200]
GREEDY_TOKENS = 64

COMMON = {
    "vocab_size": 101,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

# Sizes that no power of two divides, windows shorter than the sequence, scalings that change frequencies in use.
FAMILIES = {
    "llama": {
        "dtype": "float32",
        "config": {
            "model_type": "llama",
            "head_dim": 12,
            "attention_bias": True,
            "mlp_bias": True,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    },
    "mistral": {
        "dtype": "float16",
        "config": {
            "model_type": "mistral",
            "head_dim": 20,
            "num_key_value_heads": 1,
            "num_attention_heads": 3,
            "sliding_window": 40,
            "rms_norm_eps": 1e-2,
        },
    },
    "qwen2": {
        "dtype": "bfloat16",
        "config": {
            "model_type": "qwen2",
            "hidden_size": 36,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "use_sliding_window": True,
            "sliding_window": 70,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        },
    },
    "qwen3": {
        "dtype": "float16",
        "config": {
            "model_type": "qwen3",
            "head_dim": 20,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 3.0},
        },
    },
    "gemma3": {
        "dtype": "float16",
        "config": {
            "model_type": "gemma3_text",
            "head_dim": 12,
            "num_hidden_layers": 4,
            "num_key_value_heads": 1,
            "query_pre_attn_scalar": 20,
            "sliding_window": 33,
            "sliding_window_pattern": 3,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 20000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
    },
    "phi3": {
        "dtype": "float16",
        "config": {
            "model_type": "phi3",
            "hidden_size": 48,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "sliding_window": 50,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 512,
            "partial_rotary_factor": 0.75,
            "rope_theta": 1000.0,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.1, 1.3, 1.7, 2.5, 4.1],
                "long_factor": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
            },
        },
    },
    "olmo2": {
        "dtype": "float16",
        "config": {"model_type": "olmo2", "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 40},
    },
}


class Float64Torch:
    """Stands for `torch` in a modeling module, so that its casts to float32 become casts to float64."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float", "float32") else getattr(torch, name)


@contextlib.contextmanager
def float64_arithmetic(model_type):
    """Norms, softmax and rotary angles are cast to float32 by the models; in here nothing is lost."""
    name = {"gemma3_text": "gemma3"}.get(model_type, model_type)
    module = getattr(getattr(transformers.models, name), f"modeling_{name}")
    in_float32 = torch.Tensor.float
    module.torch = modeling_rope_utils.torch = Float64Torch()
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        module.torch = modeling_rope_utils.torch = torch
        torch.Tensor.float = in_float32


def randomise(model, generator):
    """Every parameter away from what initialisers write: a norm, bias or scale that is left out shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if name.endswith("bias"):
                values *= 0.5
            elif parameter.dim() == 1:
                # Gemma's norms store w - 1.
                values = 0.3 * values + (0.0 if model.config.model_type == "gemma3_text" else 1.0)
            elif "embed_tokens" in name:
                # Small where it is the head too, or each token would predict itself.
                values *= 0.2 if model.config.tie_word_embeddings else 1.0
            else:
                # Gain 1.5 per matrix keeps attention peaked and rows unlike each other.
                values *= 1.5 / parameter.shape[1] ** 0.5
            parameter.copy_(values)


def rounded(values):
    return [float(f"{value:.12g}") for value in values]


def greedy(model, tokens):
    """Greedy continuation, and by how much each token's logit led."""
    chosen, margins = [], []
    sequence = list(tokens)
    for _ in range(GREEDY_TOKENS):
        best = torch.topk(model(torch.tensor([sequence])).logits[0, -1], 2)
        chosen.append(int(best.indices[0]))
        margins.append(float(f"{float(best.values[0] - best.values[1]):.4g}"))
        sequence.append(chosen[-1])
    return {"promptLength": len(tokens), "tokens": chosen, "margins": margins}


def make_family(name, index, dtype, config):
    folder = DATA / name
    folder.mkdir(parents=True, exist_ok=True)
    merged = {**COMMON, **config}
    configuration = AutoConfig.for_model(**merged)
    configuration._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(1000 + index)
    stored = AutoModelForCausalLM.from_config(configuration).double()
    randomise(stored, generator)
    stored = stored.to(getattr(torch, dtype))
    stored.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    (folder / "model.safetensors").chmod(0o644)

    # Reads what it wrote, so that the results belong to the files.
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.randint(3, COMMON["vocab_size"], (SEQUENCE_LENGTH,), generator=generator).tolist()
    with torch.no_grad():
        in_float32 = plain(torch.tensor([tokens])).logits[0]
    with float64_arithmetic(merged["model_type"]), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        logits = model(torch.tensor([tokens])).logits[0]
        assert logits.dtype == torch.float64
        difference = float((logits - in_float32).abs().max())
        assert 0 < difference < 2e-3, f"{name}: float32 and float64 differ by {difference}"
        expected = {
            "tokens": tokens,
            "logits": {row: rounded(logits[row].tolist()) for row in LOGIT_ROWS},
            "greedy": [greedy(model, tokens[:length]) for length in GREEDY_PROMPT_LENGTHS],
        }
    write_json(folder / "expected.json", expected)
    distinct = [len(set(run["tokens"])) for run in expected["greedy"]]
    smallest = min(margin for run in expected["greedy"] for margin in run["margins"])
    print(f"{name}: float32 differs by {difference:.1e}; greedy: {distinct} distinct tokens, smallest margin {smallest}")


def published_facts(config):
    """What a config means to transformers: frequencies, windows, scales, and the tensors of the checkpoint."""
    configuration = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(configuration)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    if configuration.tie_word_embeddings:
        del shapes["lm_head.weight"]
    layer_count = configuration.num_hidden_layers
    first = {name: shape for name, shape in shapes.items() if ".layers." not in name or ".layers.0." in name}
    for name, shape in shapes.items():
        suffix = name.split(".layers.")[-1].split(".", 1)[-1]
        assert name in first or first[f"model.layers.0.{suffix}"] == shape
    layer_types = getattr(configuration, "layer_types", None)
    window = getattr(configuration, "sliding_window", None)
    if layer_types is not None:
        windows = [window if kind == "sliding_attention" else None for kind in layer_types]
    else:
        windows = [window] * layer_count
    return {
        "windows": windows,
        "ropes": {
            kind: rope_facts(type(model.model.rotary_emb), configuration, kind) for kind in ("full", "sliding")
        },
        "attentionScale": model.model.layers[0].self_attn.scaling,
        "normEps": configuration.rms_norm_eps,
        "tensorCount": len(shapes),
        "tensors": first,
    }


def rope_facts(rotary_class, configuration, kind):
    with float64_arithmetic(configuration.model_type):
        rotary = rotary_class(configuration)
    by_layer_type = hasattr(rotary, f"{kind}_attention_inv_freq")
    prefix = f"{kind}_attention_" if by_layer_type else ""
    return {
        "inverseFrequencies": rounded(getattr(rotary, f"{prefix}inv_freq").tolist()),
        "attentionFactor": getattr(rotary, f"{prefix}attention_scaling"),
    }


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
    }
    configs = json.loads((DATA / "published" / "configs.json").read_text())
    write_json(DATA / "published" / "transformers.json", {name: published_facts(c) for name, c in configs.items()})
    for index, (name, family) in enumerate(FAMILIES.items()):
        make_family(name, index, **family)
    write_json(DATA / "versions.json", versions)
    print(json.dumps(versions))


if __name__ == "__main__":
    main()
