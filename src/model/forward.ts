import { createStorage, createStorageFrom } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep, type Pass, type PassShape, type Step } from '../gpu/kernel.ts';
import { type AttentionBuffers, attentionStep, groupRowsOf, partialsSize } from '../kernels/attention.ts';
import { attentionFoldStep } from '../kernels/attention_fold.ts';
import { attentionLaneStep } from '../kernels/attention_lane.ts';
import { attentionTileStep } from '../kernels/attention_tile.ts';
import { embedStep } from '../kernels/embed.ts';
import { fewRowsMatmuls, type KernelKind, matmulVariants } from '../kernels/kernel_kind.ts';
import { type MatmulOptions, maxRows, squareGroupOf } from '../kernels/matmul_rows.ts';
import { matmulTileStep } from '../kernels/matmul_tile.ts';
import { normInputStep } from '../kernels/norm_input.ts';
import { firstRows } from '../kernels/packed.ts';
import { ropeKvStep } from '../kernels/rope_kv.ts';
import { rowsSize } from '../kernels/rows.ts';
import { leastSquareGroup, type Stream, streamRowSize } from '../kernels/stream.ts';
import { tapStep } from '../kernels/tap.ts';
import type { ModelConfig } from './config.ts';
import { createKvCache, type KvCache, spareRows } from './kv_cache.ts';
import { type RopeConfig, rotationTable } from './rope.ts';
import type { Linear, Weights } from './weights.ts';

/**
 * One model's forward pass, the only path for prefill (T = many), draft steps (T = 1 or 2) and verification (T = k + 1):
 * T rows, each with its token, slot and position in `rows`, which the GPU itself fills.
 */
export type Forward = {
  rows: GPUBuffer;
  /** Of the output rows, (outputCapacity, V) f32. */
  logits: GPUBuffer;
  /** Of every row, the hidden states that the tapped layers left: (rowCapacity, taps, D) f32. Null without taps. */
  tapped: GPUBuffer | null;
  /** V: ids that get logits, the first of the model's vocabulary. */
  vocabSize: number;
  /** Most rows of a pass that get logits. */
  outputCapacity: number;
  /** Rows of one sequence that share loads of keys and values. */
  groupRows: number;
  kvCache: KvCache;
  /** Most rows of one pass in tiles, and of one that is not. */
  rowCapacity: number;
  fewCapacity: number;
  dispatchesPerLayer: number;
  /** Steps from the tokens to the last hidden state; matmuls in their few-rows or in their tiled form. */
  body: { few: Step[]; tile: Step[] };
  /** Steps from the last hidden state, prepared for its norm, to the logits of the output rows. */
  head: Step[];
};

export type ForwardOptions = {
  slots: number;
  contextLength: number;
  /** Pages of the cache that the slots share. Default: as many as all of them can come to need. */
  pageCount?: number;
  /** Most rows of a pass. */
  rowCapacity: number;
  /** Most of them that get logits. Default: 8. */
  outputCapacity?: number;
  /** Of the vocabulary only the first so many ids get logits. Default: all. */
  headTokens?: number | null;
  /** Use one pipeline of the few-rows matmul for every pass. */
  paddedRows: boolean;
  /** Default: 'workgroup'. */
  kernelKind?: KernelKind;
  /** Layers whose hidden states are kept, for draft heads that read them (EAGLE-3, arXiv 2503.01840). Default: none. */
  taps?: readonly number[];
};

export async function createForward(
  gpu: Gpu,
  label: string,
  config: ModelConfig,
  weights: Weights,
  options: ForwardOptions,
): Promise<Forward> {
  const { slots, contextLength, pageCount, rowCapacity, outputCapacity = maxRows, headTokens, paddedRows } = options;
  const { hiddenSize, ffnSize, headCount, kvHeadCount, headDim, rmsNormEps, ropes } = config;
  const vocabSize = Math.min(config.vocabSize, headTokens ?? Infinity);
  const kvCache = createKvCache(gpu, label, config, {
    slots,
    contextLength,
    ...(pageCount !== undefined && { pageCount }),
  });
  const shape = { headCount, kvHeadCount, headDim, blocksPerSlot: kvCache.blocksPerSlot };
  // Passes that do not go in tiles: of a few prompt rows, two rows a slot of the first draft step, those of a verify pass.
  const fewCapacity = paddedRows ? rowCapacity : Math.min(rowCapacity, Math.max(maxRows, 2 * slots, outputCapacity));
  const queryWidth = headCount * headDim;
  const qkvWidth = queryWidth + 2 * kvHeadCount * headDim;
  const f32 = (name: string, rowCount: number, width: number) =>
    createStorage(gpu, `${label} ${name}`, rowCount * width * 4);

  const rows = createStorage(gpu, `${label} rows`, rowsSize(rowCapacity));
  const rowSize = streamRowSize(hiddenSize);
  const hidden = f32('hidden', rowCapacity, rowSize); // the residual stream
  const stream: Stream = { buffer: hidden, hiddenSize };
  const projected = config.norms === 'before' ? null : f32('projected', rowCapacity, hiddenSize);
  const qkv = f32('qkv', rowCapacity, qkvWidth);
  const query = f32('query', rowCapacity, queryWidth);
  const partials = createStorage(gpu, `${label} partials`, partialsSize(fewCapacity, shape));
  const attended = f32('attended', rowCapacity, queryWidth);
  const ffn = f32('ffn', rowCapacity, ffnSize);
  const logits = f32('logits', outputCapacity, vocabSize);
  const kernelKind = options.kernelKind ?? 'workgroup';
  const { step: fewRowsStep } = fewRowsMatmuls[kernelKind];
  const variants = matmulVariants(kernelKind, paddedRows);
  const taps = options.taps ?? [];
  const tapped = taps.length > 0 ? f32('tapped', rowCapacity, taps.length * hiddenSize) : null;
  const noBias = createStorage(gpu, `${label} no bias`, 16);
  const rotationOf = (name: string, rope: RopeConfig) =>
    createStorageFrom(gpu, `${label} ${name}`, rotationTable(contextLength + spareRows, rope));
  const fullRotation = rotationOf('rotation', ropes.full);
  const turnsApart = ropes.sliding !== ropes.full && config.windows.some((window) => window !== null);
  const slidingRotation = turnsApart ? rotationOf('sliding rotation', ropes.sliding) : fullRotation;

  /** A step of a pass over few rows, of one in tiles, or of both. */
  type Both = { few: Step | null; tile: Step | null };
  const both = async (step: Promise<Step>): Promise<Both> => ({ few: await step, tile: await step });
  const matmul = (
    linear: Linear,
    input: GPUBuffer,
    output: GPUBuffer,
    { nextNorm, ...options }: Partial<MatmulOptions> & { nextNorm?: GPUBuffer | null } = {},
  ): Promise<Both>[] => {
    const buffers = { rows, bias: linear.bias ?? noBias, input, nextNorm: nextNorm ?? noBias, output };
    const rowCount = linear.weight.reduce((sum, { matrix }) => sum + matrix.outputSize, 0);
    const stride = options.activation ? rowCount / 2 : rowCount;
    return linear.weight.map(async ({ firstRow: first, matrix }) => {
      const all = { addOutput: false, ...options, hasBias: linear.bias !== null, part: { first, stride } };
      const few = () => fewRowsStep(gpu, matrix, buffers, { ...all, variants });
      // Lanes by themselves gain nothing by tiles; and where tiles round differently, prompts too go a few rows at a time.
      const hasTile = !paddedRows && kernelKind === 'workgroup';
      // Two steps even then: what an engine takes in memory does not depend on the device.
      const [fewStep, tile] = await Promise.all([few(), hasTile ? matmulTileStep(gpu, matrix, buffers, all) : few()]);
      return { few: fewStep, tile };
    });
  };

  const attend = (buffers: AttentionBuffers, window: number | null): Promise<Both>[] => {
    const options = { scale: config.attentionScale, window };
    const split =
      kernelKind === 'lane'
        ? attentionLaneStep(gpu, { ...buffers, partials }, shape, options)
        : attentionStep(gpu, { ...buffers, partials }, shape, { ...options, paddedQueries: paddedRows });
    const fold = attentionFoldStep(gpu, { rows, partials, output: attended }, shape, { window });
    if (paddedRows) return [both(split), both(fold)];
    const tile = attentionTileStep(gpu, { ...buffers, output: attended }, shape, options);
    return [
      Promise.all([split, tile]).then(([few, tile]) => ({ few, tile })),
      fold.then((few) => ({ few, tile: null })),
    ];
  };

  const epsilon = rmsNormEps;
  /** The norm of a block's input, of which the block's first matmul does the rest. */
  type InputNorm = { weight: GPUBuffer; squareGroup: number };
  /** What the matmul behind this norm reads, where nobody left it behind. */
  const prepare = (next: InputNorm): Promise<Step> =>
    normInputStep(gpu, { rows, stream }, { next, added: null, epsilon });
  /** A block's last matmul, added to the residual stream, normalised first where the model does. */
  const leave = (
    linear: Linear,
    input: GPUBuffer,
    outputNorm: GPUBuffer | null,
    next: InputNorm | null,
  ): Promise<Both>[] => {
    if (outputNorm !== null && projected !== null) {
      const added = { output: projected, weight: outputNorm };
      return [
        ...matmul(linear, input, projected),
        both(normInputStep(gpu, { rows, stream }, { next, added, epsilon })),
      ];
    }
    const leavesNorm = next !== null && kernelKind === 'workgroup';
    const toStream = { hiddenSize, nextNorm: leavesNorm };
    const steps = matmul(linear, input, hidden, { addOutput: true, toStream, nextNorm: next?.weight ?? null });
    // Workgroups that make few rows leave behind what the next norm needs; tiles and lanes by themselves do not.
    if (next === null || (leavesNorm && paddedRows)) return steps;
    return [...steps, prepare(next).then((step) => ({ few: leavesNorm ? null : step, tile: step }))];
  };
  /** `last`: the matmul whose sums of squares it gets. */
  const inputNorm = (weight: GPUBuffer | null, last: Linear | undefined): InputNorm | null => {
    if (weight === null) return null;
    const matrix = last?.weight[0]?.matrix;
    return { weight, squareGroup: matrix === undefined ? leastSquareGroup : squareGroupOf(matrix) };
  };
  const attentionNorms = weights.layers.map((layer, index) =>
    inputNorm(layer.attentionInputNorm, weights.layers[index - 1]?.down),
  );
  const finalNorm = inputNorm(weights.finalNorm, weights.layers.at(-1)?.down);
  const normOf = (norm: InputNorm | null) => norm && { squareGroup: norm.squareGroup, epsilon };

  const tapAfter = (layer: number): Promise<Both>[] =>
    tapped === null || !taps.includes(layer)
      ? []
      : [both(tapStep(gpu, { rows, stream, tapped }, { tap: taps.indexOf(layer), tapCount: taps.length }))];

  const layerSteps = weights.layers.map((layer, index): Promise<Both>[] => {
    const keys = kvCache.keys[index] as GPUBuffer;
    const values = kvCache.values[index] as GPUBuffer;
    const { blockTable } = kvCache;
    const isLast = index === weights.layers.length - 1;
    const window = config.windows[index] ?? null;
    const rotation = window === null ? fullRotation : slidingRotation;
    const { rotaryDim } = window === null ? ropes.full : ropes.sliding;
    const ropeOptions = { rotaryDim, qkNorm: config.qkNorm, epsilon: rmsNormEps };
    const ropeBuffers = { rows, qkv, rotation, blockTable, headNorm: layer.headNorm ?? noBias, query, keys, values };
    const attentionBuffers = { rows, query, keys, values, blockTable };
    const attentionNorm = attentionNorms[index] ?? null;
    const ffnNorm = inputNorm(layer.ffnInputNorm, layer.attentionOutput);
    const { activation } = config;
    return [
      ...matmul(layer.qkv, hidden, qkv, { stream: { norm: normOf(attentionNorm) } }),
      both(ropeKvStep(gpu, ropeBuffers, shape, ropeOptions)),
      ...attend(attentionBuffers, window),
      ...leave(layer.attentionOutput, attended, layer.attentionOutputNorm, ffnNorm),
      ...matmul(layer.gateUp, hidden, ffn, { activation, stream: { norm: normOf(ffnNorm) } }),
      ...leave(layer.down, ffn, layer.ffnOutputNorm, isLast ? finalNorm : (attentionNorms[index + 1] ?? null)),
      ...tapAfter(index),
    ];
  });
  // Of every id: the prompt has them all, and the target chooses among them all.
  const embedOptions = { scale: config.embeddingScale, vocabSize: config.vocabSize, rowSize };
  const embedding = weights.embedding.map(({ firstRow: firstToken, matrix: weight }) =>
    both(embedStep(gpu, { rows, weight, output: hidden }, { ...embedOptions, firstToken })),
  );
  const firstNorm = attentionNorms[0] ? [both(prepare(attentionNorms[0]))] : [];
  const groups = [[...embedding, ...firstNorm], ...layerSteps].map((steps) => Promise.all(steps));
  const [start, ...layers] = await Promise.all(groups);
  const stepsOf = (kind: 'few' | 'tile', steps: readonly Both[] = []) => steps.flatMap((step) => step[kind] ?? []);
  const body = [...(start ?? []), ...layers.flat()];

  const headBuffers = { rows, bias: noBias, input: hidden, nextNorm: noBias, output: logits };
  const headOptions = { hasBias: false, addOutput: false, outputRowsOnly: true, variants };
  const head = await Promise.all(
    firstRows(weights.head, vocabSize).map(({ firstRow: first, matrix }) => {
      const source = { stream: { norm: normOf(finalNorm) }, part: { first, stride: vocabSize } };
      return fewRowsStep(gpu, matrix, headBuffers, { ...headOptions, ...source });
    }),
  );
  return {
    rows,
    logits,
    tapped,
    vocabSize,
    outputCapacity,
    groupRows: groupRowsOf(config),
    kvCache,
    rowCapacity,
    fewCapacity,
    dispatchesPerLayer: stepsOf('few', layers[0]).length,
    body: { few: stepsOf('few', body), tile: stepsOf('tile', body) },
    head,
  };
}

/**
 * Encodes a pass over the rows that `rows` holds: 8 share each load of the weights, or `tiled` all of a tile.
 * `outputs` > 0 adds logits for that many rows from `firstOutputRow` on.
 */
export function encodeForward(
  pass: Pass,
  forward: Forward,
  shape: PassShape,
  outputs: number,
  { tiled = false } = {},
): void {
  const capacity = tiled ? forward.rowCapacity : forward.fewCapacity;
  if (shape.rows > capacity) throw new RangeError(`Expected at most ${capacity} rows of a pass, got ${shape.rows}.`);
  for (const step of tiled ? forward.body.tile : forward.body.few) encodeStep(pass, step, shape);
  if (outputs === 0) return;
  for (const step of forward.head) encodeStep(pass, step, { ...shape, rows: outputs });
}

/** Dispatches of a pass over up to 8 rows, logits included. */
export function dispatchesPerPass(forward: Forward): number {
  return forward.body.few.length + forward.head.length;
}
