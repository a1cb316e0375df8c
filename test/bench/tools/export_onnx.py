"""The stories target as ONNX, for `npm run bench -- --baselines`.

    python -m venv venv && venv/bin/pip install -r test/bench/tools/requirements.txt && venv/bin/python test/bench/tools/export_onnx.py

Writes into test/bench/baselines/models (ignored by git), in the layout that transformers.js reads:
  plain/onnx/model.onnx                    torch.onnx.export of the transformers model, in float32
  fused/onnx/model.onnx                    the same with the fusions of transformers' own exporter for WebGPU
  genai/onnx/model.onnx, model_fp16.onnx   by the model builder of onnxruntime-genai for WebGPU, in float32 and float16
All are decoders with past keys and values as inputs, so that these can stay on the GPU.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import onnx
import onnx_ir
import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.exporters.onnxruntime_fusions import fuse_for_onnxruntime

BENCH = pathlib.Path(__file__).resolve().parent.parent
SOURCE = BENCH.parent.parent / "demo" / "public" / "models" / "stories-3m"
MODELS = BENCH / "baselines" / "models"


class Decoder(torch.nn.Module):
    """The model with its cache spelled out as tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, past):
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=DynamicCache(past),
            use_cache=True,
        )
        return output.logits, *(tensor for layer in output.past_key_values.layers for tensor in (layer.keys, layer.values))


def save(model, path):
    """With its weights in one file. transformers.js makes the empty cache from the names and sizes of these shapes."""
    config = json.loads((SOURCE / "config.json").read_text())
    shapes = {
        "input_ids": ["batch_size", "sequence_length"],
        "attention_mask": ["batch_size", "total_sequence_length"],
        "position_ids": ["batch_size", "sequence_length"],
    }
    past = ["batch_size", config["num_key_value_heads"], "past_sequence_length", config["head_dim"]]
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, past), strict=True):
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = size
    onnx.save(model, str(path))


def export_plain(path):
    model = AutoModelForCausalLM.from_pretrained(SOURCE, dtype=torch.float32, attn_implementation="eager")
    config = model.config
    batch, rows, past_length = 2, 3, 5  # any, all different: they become symbols
    past = [
        tuple(torch.zeros(batch, config.num_key_value_heads, past_length, config.head_dim) for _ in range(2))
        for _ in range(config.num_hidden_layers)
    ]
    tokens = torch.ones(batch, rows, dtype=torch.long)
    mask = torch.ones(batch, past_length + rows, dtype=torch.long)
    positions = torch.arange(past_length, past_length + rows).repeat(batch, 1)
    parts = [f"{layer}.{part}" for layer in range(config.num_hidden_layers) for part in ("key", "value")]
    any_size = torch.export.Dim.DYNAMIC
    two = {0: any_size, 1: any_size}
    cache = ({0: any_size, 2: any_size}, {0: any_size, 2: any_size})
    program = torch.onnx.export(
        Decoder(model).eval(),
        (tokens, mask, positions, past),
        input_names=["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{part}" for part in parts)],
        output_names=["logits", *(f"present.{part}" for part in parts)],
        dynamic_shapes=(two, two, two, [cache] * config.num_hidden_layers),
        dynamo=True,
        opset_version=20,
    )
    save(program.model_proto, path)


def export_fused(plain, path):
    model = onnx_ir.load(str(plain))
    fuse_for_onnxruntime(model, "webgpu")
    onnx_ir.save(model, str(path))


def export_genai(path, precision):
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", "stories-3m", "-i", str(SOURCE)]
        command += ["-o", folder, "-c", folder, "-p", precision, "-e", "webgpu"]
        subprocess.run(command, check=True)
        save(onnx.load(f"{folder}/model.onnx"), path)


def main():
    for name in ("plain", "fused", "genai"):
        (MODELS / name / "onnx").mkdir(parents=True, exist_ok=True)
        for file in SOURCE.glob("*.json"):
            shutil.copy(file, MODELS / name)
    export_plain(MODELS / "plain" / "onnx" / "model.onnx")
    export_fused(MODELS / "plain" / "onnx" / "model.onnx", MODELS / "fused" / "onnx" / "model.onnx")
    export_genai(MODELS / "genai" / "onnx" / "model.onnx", "fp32")
    export_genai(MODELS / "genai" / "onnx" / "model_fp16.onnx", "fp16")
    for path in sorted(MODELS.glob("*/onnx/*")):
        print(f"{path.relative_to(BENCH)}: {path.stat().st_size} bytes, {len(onnx.load(path).graph.node)} nodes")


if __name__ == "__main__":
    main()
