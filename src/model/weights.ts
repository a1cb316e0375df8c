import { ModelFormatError } from '../errors.ts';
import { createStorage } from '../gpu/buffers.ts';
import { bindingLimit, type Gpu } from '../gpu/device.ts';
import { createPacker, type Packer, type StoredRows } from '../kernels/pack.ts';
import { type PackedMatrix, partRows, type SplitMatrix, type WeightFormat } from '../kernels/packed.ts';
import type { ModelConfig } from './config.ts';
import { dequantizeBlocks, isBlockDtype } from './gguf_blocks.ts';
import type { OpenedModel } from './opened_model.ts';
import { toFloat32 } from './stored_values.ts';
import type { TensorRows } from './tensor_rows.ts';
import { normNames, parameterCountOf, tensorShapes } from './tensors.ts';

/** A linear layer: weight (N, K) and, where the model has one, bias (N,). */
export type Linear = { weight: SplitMatrix; bias: GPUBuffer | null };

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
  embedding: SplitMatrix; // (V, D)
  layers: LayerWeights[];
  finalNorm: GPUBuffer; // (D,) f32
  head: SplitMatrix; // (V, D); the embedding itself where the two are tied
  parameterCount: number;
  sizeBytes: number;
};

/** What the matrix of these tensors, stacked, is stored as. */
export type WeightFormats = (tensors: readonly string[]) => WeightFormat;

/** Formats by the option `dtype`; null for those that the file has. */
export function weightFormats(
  { storedFormat }: Pick<OpenedModel, 'storedFormat'>,
  dtype: WeightFormat | null,
): WeightFormats {
  return (tensors) => {
    const [first] = tensors as [string];
    if (dtype === null) {
      const stored = new Set(tensors.map(storedFormat));
      return (['f16', 'q8', 'q4'] as const).find((format) => stored.has(format)) as WeightFormat;
    }
    // As llama.cpp does it, with 6 bits there: embedding and head, which feel rounding most, keep a finer format.
    return dtype === 'q4' && vocabularyTensors.includes(first) ? 'q8' : dtype;
  };
}

const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';
const vocabularyTensors: readonly string[] = [EMBEDDING, HEAD];

/** The modules whose matrices are stacked into one. */
const qkvModules = ({ fusedProjections }: ModelConfig, layer: string) =>
  (fusedProjections ? ['qkv_proj'] : ['q_proj', 'k_proj', 'v_proj']).map((name) => `${layer}.self_attn.${name}`);
const gateUpModules = ({ fusedProjections }: ModelConfig, layer: string) =>
  (fusedProjections ? ['gate_up_proj'] : ['gate_proj', 'up_proj']).map((name) => `${layer}.mlp.${name}`);

/**
 * Uploads a model's tensors slice by slice, in the order of its files: matrices packed and quantised on the GPU, vectors
 * as float32. Nothing is kept of what was uploaded.
 * @param rows exactly the tensors of `tensorShapes(config)`, of these shapes
 * @param partBytes most bytes of a part of a matrix: what the device can bind
 * @throws ModelFormatError naming the tensors with values that are not finite, or too large for their format.
 */
export async function uploadWeights(
  gpu: Gpu,
  label: string,
  { url, config }: Pick<OpenedModel, 'url' | 'config'>,
  rows: AsyncIterable<TensorRows>,
  formats: WeightFormats,
  { signal, partBytes = bindingLimit(gpu.device.limits) }: { signal?: AbortSignal; partBytes?: number } = {},
): Promise<Weights> {
  const shapes = tensorShapes(config);
  const packer = createPacker(gpu, shapes.size);
  try {
    const plan = createPlan(gpu, label, shapes, packer, partBytes);
    const weights = planWeights(config, plan, formats);
    for await (const some of rows) {
      // The device may be closed by now.
      signal?.throwIfAborted();
      await plan.write(some);
    }
    signal?.throwIfAborted();
    const faulty = await packer.faulty();
    if (faulty.length > 0) throw faultyError(url, faulty);
    return { ...weights(), parameterCount: parameterCountOf(config), sizeBytes: plan.sizeBytes() };
  } finally {
    packer.close();
  }
}

/** The buffers that `uploadWeights` fills, of zeros. */
export function allocateWeights(
  gpu: Gpu,
  label: string,
  config: ModelConfig,
  formats: WeightFormats,
  partBytes = bindingLimit(gpu.device.limits),
): Weights {
  const shapes = tensorShapes(config);
  const packer = createPacker(gpu, shapes.size);
  const plan = createPlan(gpu, label, shapes, packer, partBytes);
  const weights = planWeights(config, plan, formats)();
  packer.close();
  return { ...weights, parameterCount: parameterCountOf(config), sizeBytes: plan.sizeBytes() };
}

type Plan = ReturnType<typeof createPlan>;

/** Where each tensor goes. What it goes into is made when its first rows come: by then the file's head was checked. */
function createPlan(
  gpu: Gpu,
  label: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  packer: Packer,
  partBytes: number,
) {
  const writers = new Map<string, (rows: TensorRows) => Promise<void> | void>();
  let decoded: Float32Array<ArrayBuffer> | null = null;
  let sizeBytes = 0;
  const outputs = (name: string) => (shapes.get(name) as readonly number[])[0] as number;
  /** Made on the first call. */
  const once = <T>(make: () => T): (() => T) => {
    let made: T | null = null;
    return () => {
      if (made !== null) return made;
      const bytesBefore = gpu.bytes;
      made = make();
      sizeBytes += gpu.bytes - bytesBefore;
      return made;
    };
  };
  /** As float32 what comes in blocks, from which the packed formats are rounded once. */
  const packable = ({ name, dtype, rowCount, data }: TensorRows): StoredRows => {
    if (!isBlockDtype(dtype)) return { name, dtype, rowCount, data };
    const values = dequantizeBlocks(dtype, data, decoded);
    if (decoded === null || values.length > decoded.length) decoded = values;
    return { name, dtype: 'F32', rowCount, data: new Uint8Array(values.buffer, 0, values.byteLength) };
  };
  /** Tensors stacked along their rows: `write` gets those of each with the place of the first one. */
  const stack = (
    names: readonly string[],
    write: (first: number, rows: TensorRows) => Promise<void> | void,
  ): number => {
    let count = 0;
    for (const name of names) {
      const begin = count;
      writers.set(name, (rows) => write(begin + rows.firstRow, rows));
      count += outputs(name);
    }
    return count;
  };
  return {
    sizeBytes: () => sizeBytes,
    write: (rows: TensorRows) => (writers.get(rows.name) as (rows: TensorRows) => Promise<void> | void)(rows),

    /** In as many parts as the device needs to bind it; with two halves, each part has the same rows of both. */
    matrix(names: readonly string[], inputSize: number, format: WeightFormat, halves: 1 | 2 = 1): () => SplitMatrix {
      const outputSize = stack(names, async (first, rows) => {
        const { name, dtype, rowCount, data } = packable(rows);
        const rowBytes = data.byteLength / rowCount;
        for (const { firstRow, matrix } of parts()) {
          const partRowCount = matrix.outputSize / halves;
          for (let half = 0; half < halves; half++) {
            const placed = firstRow + (half * outputSize) / halves;
            const begin = Math.max(first, placed);
            const end = Math.min(first + rowCount, placed + partRowCount);
            if (begin >= end) continue;
            const some = data.subarray((begin - first) * rowBytes, (end - first) * rowBytes);
            const at = half * partRowCount + begin - placed;
            await packer.write(matrix, at, { name, dtype, rowCount: end - begin, data: some });
          }
        }
      });
      const parts = once((): SplitMatrix => {
        const counts = partRows({ outputSize: outputSize / halves, inputSize }, format, partBytes / halves);
        let firstRow = 0;
        return counts.map((rowCount, i) => {
          const what = `${label} ${names.join('+')}${counts.length === 1 ? '' : ` ${i}`}`;
          const part = { firstRow, matrix: packer.create(what, halves * rowCount, inputSize, format) };
          firstRow += rowCount;
          return part;
        });
      });
      return parts;
    },

    vector(names: readonly string[], offset = 0): () => GPUBuffer {
      const length = stack(names, (first, rows) => {
        const values = toFloat32(rows).map((value) => value + offset);
        gpu.device.queue.writeBuffer(vector(), first * 4, values);
      });
      const vector = once(() => createStorage(gpu, `${label} ${names.join('+')}`, length * 4));
      return vector;
    },
  };
}

/** Plans all tensors of the model. The result gives its buffers, when everything has been written. */
function planWeights(config: ModelConfig, { matrix, vector }: Plan, formats: WeightFormats) {
  const { hiddenSize, ffnSize, headCount, headDim, layerCount, normOffset, qkNorm } = config;
  const linear = (
    modules: readonly string[],
    inputSize: number,
    hasBias: boolean,
    halves: 1 | 2 = 1,
  ): (() => Linear) => {
    const named = (kind: string) => modules.map((module) => `${module}.${kind}`);
    const weight = matrix(named('weight'), inputSize, formats(named('weight')), halves);
    const bias = hasBias ? vector(named('bias')) : () => null;
    return () => ({ weight: weight(), bias: bias() });
  };
  const norms = normNames(config);
  const planLayer = (index: number): (() => LayerWeights) => {
    const layer = `model.layers.${index}`;
    const attention = `${layer}.self_attn`;
    const norm = (name: string | null) =>
      name === null ? () => null : vector([`${layer}.${name}.weight`], normOffset);
    const headNorms = [`${attention}.q_norm.weight`, `${attention}.k_norm.weight`];
    const parts = {
      attentionInputNorm: norm(norms.attentionInput),
      attentionOutputNorm: norm(norms.attentionOutput),
      ffnInputNorm: norm(norms.ffnInput),
      ffnOutputNorm: norm(norms.ffnOutput),
      headNorm: qkNorm === 'none' ? () => null : vector(headNorms, normOffset),
      qkv: linear(qkvModules(config, layer), hiddenSize, config.attentionBias),
      attentionOutput: linear([`${attention}.o_proj`], headCount * headDim, config.attentionOutputBias),
      gateUp: linear(gateUpModules(config, layer), hiddenSize, config.mlpBias, 2),
      down: linear([`${layer}.mlp.down_proj`], ffnSize, config.mlpBias),
    };
    return () => ({
      attentionInputNorm: parts.attentionInputNorm(),
      attentionOutputNorm: parts.attentionOutputNorm(),
      ffnInputNorm: parts.ffnInputNorm(),
      ffnOutputNorm: parts.ffnOutputNorm(),
      headNorm: parts.headNorm(),
      qkv: parts.qkv(),
      attentionOutput: parts.attentionOutput(),
      gateUp: parts.gateUp(),
      down: parts.down(),
    });
  };
  const embedding = matrix([EMBEDDING], hiddenSize, formats([EMBEDDING]));
  const layers = Array.from({ length: layerCount }, (_, index) => planLayer(index));
  const finalNorm = vector(['model.norm.weight'], normOffset);
  const head = config.tiedEmbeddings ? embedding : matrix([HEAD], hiddenSize, formats([HEAD]));
  return () => ({
    embedding: embedding(),
    layers: layers.map((layer) => layer()),
    finalNorm: finalNorm(),
    head: head(),
  });
}

function faultyError(url: string, faulty: readonly string[]): ModelFormatError {
  return new ModelFormatError(
    `Expected the weights of ${url} to be finite and within float16 (±65,504), got others in ${faulty.slice(0, 5).join(', ')}` +
      `${faulty.length > 5 ? ` and ${faulty.length - 5} more` : ''}. The file may be damaged; otherwise this model needs ` +
      'weights of a wider type than is supported.',
  );
}

/** The matrices of uploaded weights. */
export function matricesOf({ embedding, head, layers }: Weights): PackedMatrix[] {
  const linears = layers.flatMap(({ qkv, attentionOutput, gateUp, down }) => [qkv, attentionOutput, gateUp, down]);
  return [...embedding, ...head, ...linears.flatMap(({ weight }) => weight)].map(({ matrix }) => matrix);
}
