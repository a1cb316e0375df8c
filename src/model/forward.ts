import { createStorage, createStorageFrom } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep, type PassShape, type Step } from '../gpu/kernel.ts';
import { attentionStep, groupRowsOf, partialsSize } from '../kernels/attention.ts';
import { attentionFoldStep } from '../kernels/attention_fold.ts';
import { embedStep } from '../kernels/embed.ts';
import { type Activation, matmulRowsStep, maxRows } from '../kernels/matmul_rows.ts';
import { matmulTileStep } from '../kernels/matmul_tile.ts';
import { rmsNormStep } from '../kernels/rms_norm.ts';
import { ropeKvStep } from '../kernels/rope_kv.ts';
import { rowsSize } from '../kernels/rows.ts';
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
  vocabSize: number;
  /** Most rows of a pass that get logits. */
  outputCapacity: number;
  /** Rows of one sequence that share loads of keys and values. */
  groupRows: number;
  kvCache: KvCache;
  /** Most rows of one pass. */
  rowCapacity: number;
  dispatchesPerLayer: number;
  /** Steps from the tokens to the last hidden state; matmuls in their few-rows or in their tiled form. */
  body: { few: Step[]; tile: Step[] };
  /** Steps from the hidden state of the output rows to their logits. */
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
  /** Use one 8-row matmul for every pass. */
  paddedRows: boolean;
};

export async function createForward(
  gpu: Gpu,
  label: string,
  config: ModelConfig,
  weights: Weights,
  { slots, contextLength, pageCount, rowCapacity, outputCapacity = maxRows, paddedRows }: ForwardOptions,
): Promise<Forward> {
  const { hiddenSize, ffnSize, headCount, kvHeadCount, headDim, vocabSize, rmsNormEps, ropes } = config;
  const kvCache = createKvCache(gpu, label, config, {
    slots,
    contextLength,
    ...(pageCount !== undefined && { pageCount }),
  });
  const shape = { headCount, kvHeadCount, headDim, blocksPerSlot: kvCache.blocksPerSlot };
  const queryWidth = headCount * headDim;
  const qkvWidth = queryWidth + 2 * kvHeadCount * headDim;
  const f32 = (name: string, rowCount: number, width: number) =>
    createStorage(gpu, `${label} ${name}`, rowCount * width * 4);

  const rows = createStorage(gpu, `${label} rows`, rowsSize(rowCapacity));
  const hidden = f32('hidden', rowCapacity, hiddenSize); // (T, D), the residual stream
  const normed = f32('normed', rowCapacity, hiddenSize);
  const projected = config.norms === 'before' ? null : f32('projected', rowCapacity, hiddenSize);
  const qkv = f32('qkv', rowCapacity, qkvWidth);
  const query = f32('query', rowCapacity, queryWidth);
  const partials = createStorage(gpu, `${label} partials`, partialsSize(rowCapacity, shape));
  const attended = f32('attended', rowCapacity, queryWidth);
  const ffn = f32('ffn', rowCapacity, ffnSize);
  const outputHidden = f32('output hidden', outputCapacity, hiddenSize);
  const logits = f32('logits', outputCapacity, vocabSize);
  const noBias = createStorage(gpu, `${label} no bias`, 16);
  const rotationOf = (name: string, rope: RopeConfig) =>
    createStorageFrom(gpu, `${label} ${name}`, rotationTable(contextLength + spareRows, rope));
  const fullRotation = rotationOf('rotation', ropes.full);
  const turnsApart = ropes.sliding !== ropes.full && config.windows.some((window) => window !== null);
  const slidingRotation = turnsApart ? rotationOf('sliding rotation', ropes.sliding) : fullRotation;

  type Both = { few: Step; tile: Step };
  const both = async (step: Promise<Step>): Promise<Both> => ({ few: await step, tile: await step });
  const norm = (weight: GPUBuffer, input: GPUBuffer, output: GPUBuffer, addOutput = false) =>
    both(rmsNormStep(gpu, { rows, input, weight, output }, { hiddenSize, epsilon: rmsNormEps, addOutput }));
  type Epilogue = { addOutput?: boolean; activation?: Activation };
  const matmul = (
    linear: Linear,
    input: GPUBuffer,
    output: GPUBuffer,
    { addOutput = false, activation }: Epilogue = {},
  ): Promise<Both>[] => {
    const buffers = { rows, bias: linear.bias ?? noBias, input, output };
    const rowCount = linear.weight.reduce((sum, { matrix }) => sum + matrix.outputSize, 0);
    const stride = activation === undefined ? rowCount : rowCount / 2;
    return linear.weight.map(async ({ firstRow: first, matrix }) => {
      const part = { first, stride };
      const options = { hasBias: linear.bias !== null, addOutput, activation: activation ?? null, part };
      const few = matmulRowsStep(gpu, matrix, buffers, { ...options, paddedRows });
      // On a device where the tile rounds differently, prompts too go 8 rows at a time.
      const tile = paddedRows ? few : matmulTileStep(gpu, matrix, buffers, options);
      return { few: await few, tile: await tile };
    });
  };

  /** Input of a block: the residual stream, normalised first where the model does. */
  const enter = (weight: GPUBuffer | null): { input: GPUBuffer; steps: Promise<Both>[] } =>
    weight === null ? { input: hidden, steps: [] } : { input: normed, steps: [norm(weight, hidden, normed)] };
  /** A block's last matmul, added to the residual stream, normalised first where the model does. */
  const leave = (linear: Linear, input: GPUBuffer, weight: GPUBuffer | null): Promise<Both>[] =>
    weight === null || projected === null
      ? matmul(linear, input, hidden, { addOutput: true })
      : [...matmul(linear, input, projected), norm(weight, projected, hidden, true)];

  const layerSteps = weights.layers.map((layer, index): Promise<Both>[] => {
    const keys = kvCache.keys[index] as GPUBuffer;
    const values = kvCache.values[index] as GPUBuffer;
    const { blockTable } = kvCache;
    const window = config.windows[index] ?? null;
    const rotation = window === null ? fullRotation : slidingRotation;
    const { rotaryDim } = window === null ? ropes.full : ropes.sliding;
    const ropeOptions = { rotaryDim, qkNorm: config.qkNorm, epsilon: rmsNormEps };
    const ropeBuffers = { rows, qkv, rotation, blockTable, headNorm: layer.headNorm ?? noBias, query, keys, values };
    const attentionBuffers = { rows, query, keys, values, blockTable, partials };
    const attentionInput = enter(layer.attentionInputNorm);
    const ffnInput = enter(layer.ffnInputNorm);
    return [
      ...attentionInput.steps,
      ...matmul(layer.qkv, attentionInput.input, qkv),
      both(ropeKvStep(gpu, ropeBuffers, shape, ropeOptions)),
      both(attentionStep(gpu, attentionBuffers, shape, { scale: config.attentionScale, window })),
      both(attentionFoldStep(gpu, { rows, partials, output: attended }, shape, { window })),
      ...leave(layer.attentionOutput, attended, layer.attentionOutputNorm),
      ...ffnInput.steps,
      ...matmul(layer.gateUp, ffnInput.input, ffn, { activation: config.activation }),
      ...leave(layer.down, ffn, layer.ffnOutputNorm),
    ];
  });
  const embedding = weights.embedding.map(({ firstRow: firstToken, matrix: weight }) =>
    both(embedStep(gpu, { rows, weight, output: hidden }, { scale: config.embeddingScale, firstToken, vocabSize })),
  );
  const body = await Promise.all([...embedding, ...layerSteps.flat()]);

  const finalNorm = rmsNormStep(
    gpu,
    { rows, input: hidden, weight: weights.finalNorm, output: outputHidden },
    { hiddenSize, epsilon: rmsNormEps, outputRowsOnly: true },
  );
  const headBuffers = { rows, bias: noBias, input: outputHidden, output: logits };
  const headOptions = { hasBias: false, addOutput: false, outputRowsOnly: true, paddedRows };
  const logitSteps = weights.head.map(({ firstRow: first, matrix }) =>
    matmulRowsStep(gpu, matrix, headBuffers, { ...headOptions, part: { first, stride: vocabSize } }),
  );
  const head = await Promise.all([finalNorm, ...logitSteps]);
  return {
    rows,
    logits,
    vocabSize,
    outputCapacity,
    groupRows: groupRowsOf(config),
    kvCache,
    rowCapacity,
    dispatchesPerLayer: layerSteps[0]?.length ?? 0,
    body: { few: body.map(({ few }) => few), tile: body.map(({ tile }) => tile) },
    head,
  };
}

/**
 * Encodes a pass over the rows that `rows` holds: 8 share each load of the weights, or `tiled` all of a tile.
 * `outputs` > 0 adds logits for that many rows from `firstOutputRow` on.
 */
export function encodeForward(
  pass: GPUComputePassEncoder,
  forward: Forward,
  shape: PassShape,
  outputs: number,
  { tiled = false } = {},
): void {
  for (const step of tiled ? forward.body.tile : forward.body.few) encodeStep(pass, step, shape);
  if (outputs === 0) return;
  for (const step of forward.head) encodeStep(pass, step, { ...shape, rows: outputs });
}

/** Dispatches of a pass over up to 8 rows, logits included. */
export function dispatchesPerPass(forward: Forward): number {
  return forward.body.few.length + forward.head.length;
}
