import { createStorageFrom } from '../gpu/buffers.ts';
import { checkBindingSize, type Gpu } from '../gpu/device.ts';
import { type PackedMatrix, uploadPacked } from '../kernels/packed.ts';
import type { ModelConfig } from './config.ts';
import { toFloat16Bits, toFloat32 } from './float16.ts';
import type { ModelFiles } from './load.ts';
import type { Tensor } from './safetensors.ts';
import { normNames } from './tensors.ts';

/** A linear layer: weight (N, K) and, where the model has one, bias (N,). */
export type Linear = { weight: PackedMatrix; bias: GPUBuffer | null };

export type LayerWeights = {
  attentionInputNorm: GPUBuffer | null; // (D,) f32, each norm where the model has it
  attentionOutputNorm: GPUBuffer | null;
  ffnInputNorm: GPUBuffer | null;
  ffnOutputNorm: GPUBuffer | null;
  headNorm: GPUBuffer | null; // weights of the queries' norm, then of the keys' (2 · headDim or (H + K) · headDim)
  qkv: Linear; // ((H + 2K) · headDim, D): q, k and v stacked, one matmul
  attentionOutput: Linear; // (D, H · headDim)
  gateUp: Linear; // (2F, D): gate and up stacked
  down: Linear; // (D, F)
};

export type Weights = {
  embedding: PackedMatrix; // (V, D)
  layers: LayerWeights[];
  finalNorm: GPUBuffer; // (D,) f32
  head: PackedMatrix; // (V, D); the embedding itself where the two are tied
  parameterCount: number;
  sizeBytes: number;
};

/** Uploads a model's tensors, matrices packed as float16, vectors as float32. The tensors were checked against the config. */
export function uploadWeights(gpu: Gpu, label: string, { url, config, tensors }: ModelFiles): Weights {
  const bytesBefore = gpu.bytes;
  const file = `${url}model.safetensors`;
  const tensor = (name: string) => tensors.get(name) as Tensor;

  const matrix = (names: readonly string[], inputSize: number): PackedMatrix =>
    uploadPacked(
      gpu,
      `${label} ${names.join('+')}`,
      names.map((name) => toFloat16Bits(tensor(name), name, file)),
      inputSize,
    );
  const vector = (names: readonly string[], offset = 0): GPUBuffer => {
    const parts = names.map((name) => toFloat32(tensor(name)).map((value) => value + offset));
    const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let start = 0;
    for (const part of parts) {
      joined.set(part, start);
      start += part.length;
    }
    return createStorageFrom(gpu, `${label} ${names.join('+')}`, joined);
  };
  const linear = (modules: readonly string[], inputSize: number, hasBias: boolean): Linear => ({
    weight: matrix(
      modules.map((module) => `${module}.weight`),
      inputSize,
    ),
    bias: hasBias ? vector(modules.map((module) => `${module}.bias`)) : null,
  });

  const { hiddenSize, ffnSize, headCount, headDim, layerCount, normOffset, fusedProjections, qkNorm } = config;
  const norms = normNames(config);
  const qkvNames = fusedProjections ? ['qkv_proj'] : ['q_proj', 'k_proj', 'v_proj'];
  const gateUpNames = fusedProjections ? ['gate_up_proj'] : ['gate_proj', 'up_proj'];
  const embedding = matrix(['model.embed_tokens.weight'], hiddenSize);
  const layers = Array.from({ length: layerCount }, (_, index): LayerWeights => {
    const layer = `model.layers.${index}`;
    const attention = `${layer}.self_attn`;
    const norm = (name: string | null) => (name === null ? null : vector([`${layer}.${name}.weight`], normOffset));
    const under = (parent: string, names: readonly string[]) => names.map((name) => `${parent}.${name}`);
    return {
      attentionInputNorm: norm(norms.attentionInput),
      attentionOutputNorm: norm(norms.attentionOutput),
      ffnInputNorm: norm(norms.ffnInput),
      ffnOutputNorm: norm(norms.ffnOutput),
      headNorm:
        qkNorm === 'none' ? null : vector([`${attention}.q_norm.weight`, `${attention}.k_norm.weight`], normOffset),
      qkv: linear(under(attention, qkvNames), hiddenSize, config.attentionBias),
      attentionOutput: linear([`${attention}.o_proj`], headCount * headDim, config.attentionOutputBias),
      gateUp: linear(under(`${layer}.mlp`, gateUpNames), hiddenSize, config.mlpBias),
      down: linear([`${layer}.mlp.down_proj`], ffnSize, config.mlpBias),
    };
  });
  return {
    embedding,
    layers,
    finalNorm: vector(['model.norm.weight'], normOffset),
    head: config.tiedEmbeddings ? embedding : matrix(['lm_head.weight'], hiddenSize),
    parameterCount: parameterCount(config, tensors),
    sizeBytes: gpu.bytes - bytesBefore,
  };
}

function parameterCount(config: ModelConfig, tensors: ModelFiles['tensors']): number {
  let count = 0;
  for (const [name, { shape }] of tensors) {
    if (config.tiedEmbeddings && name === 'lm_head.weight') continue; // the embedding once more
    if (name.endsWith('.weight') || name.endsWith('.bias')) count += shape.reduce((a, b) => a * b, 1);
  }
  return count;
}

/** @throws DeviceLimitError before anything large is fetched, if this device cannot hold the model's largest matrix. */
export function checkWeightLimits(gpu: Gpu, url: string, { vocabSize, hiddenSize, ffnSize }: ModelConfig): void {
  checkBindingSize(gpu, `the embedding of ${url} (${vocabSize} × ${hiddenSize})`, vocabSize * hiddenSize * 2);
  checkBindingSize(gpu, `gate and up of ${url} (${2 * ffnSize} × ${hiddenSize})`, 2 * ffnSize * hiddenSize * 2);
}
