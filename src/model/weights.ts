import { ModelFormatError } from '../errors.ts';
import { createStorageFrom } from '../gpu/buffers.ts';
import { checkBindingSize, type Gpu } from '../gpu/device.ts';
import { createPacker, type StoredRows } from '../kernels/pack.ts';
import { type PackedMatrix, packedWords, type WeightFormat } from '../kernels/packed.ts';
import type { ModelConfig } from './config.ts';
import { dequantizeBlocks, isBlockDtype } from './gguf_blocks.ts';
import type { ModelFiles } from './load.ts';
import { toFloat32, type WeightTensor } from './stored_values.ts';
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

/** What the matrices of a model are stored as. */
export type WeightFormats = {
  /** Of the layers. */
  layers: WeightFormat;
  /** Of embedding and head, which feel rounding most. */
  vocabulary: WeightFormat;
};

/** Formats by the option `dtype`. */
export const weightFormats = {
  f16: { layers: 'f16', vocabulary: 'f16' },
  q8: { layers: 'q8', vocabulary: 'q8' },
  // As llama.cpp does it, with 6 bits there: the vocabulary keeps a finer format.
  q4: { layers: 'q4', vocabulary: 'q8' },
} as const satisfies Record<WeightFormat, WeightFormats>;

/**
 * Uploads a model's tensors, one after another: matrices packed and quantised on the GPU, vectors as float32. The tensors
 * were checked against the config.
 * @throws ModelFormatError naming the tensors with values that are not finite, or too large for their format.
 */
export async function uploadWeights(
  gpu: Gpu,
  label: string,
  { url, config, tensors }: ModelFiles,
  formats: WeightFormats,
): Promise<Weights> {
  const bytesBefore = gpu.bytes;
  const tensor = (name: string) => tensors.get(name) as WeightTensor;
  const packer = createPacker(gpu, tensors.size + 1);

  const matrix = (names: readonly string[], inputSize: number, format: WeightFormat): Promise<PackedMatrix> =>
    packer.pack(
      `${label} ${names.join('+')}`,
      names.map((name) => storedRows(name, tensor(name))),
      inputSize,
      format,
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
  const linear = async (modules: readonly string[], inputSize: number, hasBias: boolean): Promise<Linear> => ({
    weight: await matrix(
      modules.map((module) => `${module}.weight`),
      inputSize,
      formats.layers,
    ),
    bias: hasBias ? vector(modules.map((module) => `${module}.bias`)) : null,
  });

  const { hiddenSize, ffnSize, headCount, headDim, layerCount, normOffset, fusedProjections, qkNorm } = config;
  const norms = normNames(config);
  const qkvNames = fusedProjections ? ['qkv_proj'] : ['q_proj', 'k_proj', 'v_proj'];
  const gateUpNames = fusedProjections ? ['gate_up_proj'] : ['gate_proj', 'up_proj'];
  const embedding = await matrix(['model.embed_tokens.weight'], hiddenSize, formats.vocabulary);
  const layers: LayerWeights[] = [];
  for (let index = 0; index < layerCount; index++) {
    const layer = `model.layers.${index}`;
    const attention = `${layer}.self_attn`;
    const norm = (name: string | null) => (name === null ? null : vector([`${layer}.${name}.weight`], normOffset));
    const under = (parent: string, names: readonly string[]) => names.map((name) => `${parent}.${name}`);
    layers.push({
      attentionInputNorm: norm(norms.attentionInput),
      attentionOutputNorm: norm(norms.attentionOutput),
      ffnInputNorm: norm(norms.ffnInput),
      ffnOutputNorm: norm(norms.ffnOutput),
      headNorm:
        qkNorm === 'none' ? null : vector([`${attention}.q_norm.weight`, `${attention}.k_norm.weight`], normOffset),
      qkv: await linear(under(attention, qkvNames), hiddenSize, config.attentionBias),
      attentionOutput: await linear([`${attention}.o_proj`], headCount * headDim, config.attentionOutputBias),
      gateUp: await linear(under(`${layer}.mlp`, gateUpNames), hiddenSize, config.mlpBias),
      down: await linear([`${layer}.mlp.down_proj`], ffnSize, config.mlpBias),
    });
  }
  const finalNorm = vector(['model.norm.weight'], normOffset);
  const head = config.tiedEmbeddings ? embedding : await matrix(['lm_head.weight'], hiddenSize, formats.vocabulary);
  const faulty = await packer.finish();
  if (faulty.length > 0) {
    throw new ModelFormatError(
      `Expected the weights of ${url} to be finite and within float16 (±65,504), got others in ${faulty.slice(0, 5).join(', ')}` +
        `${faulty.length > 5 ? ` and ${faulty.length - 5} more` : ''}. The file may be damaged; otherwise this model needs ` +
        'weights of a wider type than is supported.',
    );
  }
  return {
    embedding,
    layers,
    finalNorm,
    head,
    parameterCount: parameterCount(config, tensors),
    sizeBytes: gpu.bytes - bytesBefore,
  };
}

/** Blocks are decoded a slice of rows at a time: as float32, from which the packed formats are rounded once. */
function storedRows(name: string, { dtype, shape, data }: WeightTensor): StoredRows {
  if (!isBlockDtype(dtype)) return { name, dtype, data };
  const decode = (rows: Uint8Array) => new Uint8Array(dequantizeBlocks(dtype, rows).buffer);
  return { name, dtype: 'F32', data, encoded: { rows: shape[0] as number, decode } };
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
export function checkWeightLimits(
  gpu: Gpu,
  url: string,
  { vocabSize, hiddenSize, ffnSize }: ModelConfig,
  formats: WeightFormats,
): void {
  const check = (what: string, outputSize: number, inputSize: number, format: WeightFormat) => {
    const sizeBytes = packedWords({ outputSize, inputSize }, format) * 16;
    checkBindingSize(gpu, `${what} of ${url} (${outputSize} × ${inputSize}, ${format})`, sizeBytes);
  };
  check('the embedding', vocabSize, hiddenSize, formats.vocabulary);
  check('gate and up', 2 * ffnSize, hiddenSize, formats.layers);
}
