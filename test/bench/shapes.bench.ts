/** Rounds of models that are not here: random weights of real shapes, measured v and c, and the speedup for given acceptance. */
import { expectedTokensPerRound, roundCost } from '../../demo/cost_model.ts';
import { createStorage, createStorageFrom, destroyBuffer } from '../../src/gpu/buffers.ts';
import { bindingLimit, closeGpu, type Gpu, openGpu } from '../../src/gpu/device.ts';
import {
  countDispatches,
  createBindGroup,
  createPipeline,
  encodeStep,
  foldedGrid,
  type Kernel,
  type Pass,
  type Step,
} from '../../src/gpu/kernel.ts';
import { gpuIdle, submitPass } from '../../src/gpu/submit.ts';
import { type PackedMatrix, packedBytes, segmentsOf, type WeightFormat } from '../../src/kernels/packed.ts';
import { type ModelConfig, parseConfig } from '../../src/model/config.ts';
import { createForward, type Forward } from '../../src/model/forward.ts';
import { fasterKernels, typicalMatrix } from '../../src/model/tune.ts';
import type { Weights } from '../../src/model/weights.ts';
import { measureCosts } from '../../src/speculative/costs.ts';
import { createRoundPlan, encodeVerify, type RoundPlan } from '../../src/speculative/round.ts';
import { createSequences, setTurns } from '../../src/speculative/sequence.ts';
import type { CostReport } from '../../src/types.ts';
import { stepGroups } from './steps.ts';
import { adapterLine, timePasses, timingOf, withTimestamps } from './timing.ts';

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  max_position_embeddings: 8192,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
  hidden_act: 'silu',
};
const smollm2 = { ...llama, vocab_size: 49152 };
const stories = { ...llama, vocab_size: 2048, head_dim: 64, rope_theta: 10000 };
/** By the names that `--shapes` takes. */
const published: Record<string, Record<string, unknown>> = {
  'smollm2-1.7b': {
    ...smollm2,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 24,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    rope_theta: 130000,
  },
  'smollm2-360m': {
    ...smollm2,
    hidden_size: 960,
    intermediate_size: 2560,
    num_hidden_layers: 32,
    num_attention_heads: 15,
    num_key_value_heads: 5,
    rope_theta: 100000,
  },
  'smollm2-135m': {
    ...smollm2,
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    rope_theta: 100000,
  },
  'stories-3m': {
    ...stories,
    hidden_size: 256,
    intermediate_size: 640,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
  },
  'stories-650k': {
    ...stories,
    hidden_size: 128,
    intermediate_size: 384,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
  },
};

export type ShapesOptions = {
  /** `smollm2-1.7b+135m`: target and draft, the draft's family being the target's unless it says its own. */
  shapes: string;
  dtype: WeightFormat;
  /** Of each model at most so many; null: all. */
  layers: number | null;
  /** The option `headTokens` of the draft; null: its whole vocabulary. */
  headTokens: number | null;
  sampleCount: number;
};

export type ShapesReport = ShapesOptions & {
  adapter: string;
  costs: CostReport;
  layerCounts: { target: number; draft: number };
  /** Ids that the draft proposes, and those of its vocabulary. */
  draftTokens: { head: number; vocabulary: number };
  weightBytes: { target: number; draft: number };
  /** Weights of the target / time of one row. */
  bytesPerSecond: number;
  /** Of a copy between two buffers, read and written. */
  copyBytesPerSecond: number;
  /** What the host takes to encode and submit a pass of the target over one row. */
  encoding: { ms: number; leastMs: number; dispatches: number };
  /** Where the target's passes spend their time, in µs by rows. */
  steps: StepTimes[];
  /** Speedup by acceptance and k: expected tokens of a round / its measured cost. */
  speedups: { alpha: number; byDraftLength: number[] }[];
};

/** A StepGroup and its times. */
export type StepTimes = { label: string; dispatches: number; microseconds: number[] };

const profiledRows = [1, 2, 4, 8];

export async function benchShapes(options: ShapesOptions): Promise<ShapesReport> {
  const { shapes, dtype, layers, headTokens, sampleCount } = options;
  const [targetName = '', draftSuffix = ''] = shapes.split('+');
  const draftName = draftSuffix in published ? draftSuffix : `${targetName.split('-')[0]}-${draftSuffix}`;
  const gpu = await openGpu(withTimestamps(navigator.gpu));
  try {
    const open = async (name: string, headTokens: number | null) => {
      const config = configOf(name, layers);
      const weights = randomWeights(gpu, name, config, dtype);
      const size = {
        slots: 1,
        contextLength: 256,
        rowCapacity: 64,
        headTokens,
        paddedRows: false,
        kernelKind: await fasterKernels(gpu, typicalMatrix(weights)),
      };
      return { weights, config, forward: await createForward(gpu, name, config, weights, size) };
    };
    const [target, draft] = [await open(targetName, null), await open(draftName, headTokens)];
    const sequences = createSequences(gpu, { slots: 1, contextLength: 256, vocabSize: target.config.vocabSize });
    const forwards = { target: target.forward, draft: draft.forward };
    const plan = await createRoundPlan(gpu, forwards, { sequences });
    await warmUp(gpu, plan);
    const costs = await measureCosts(gpu, plan, sequences, { sampleCount });
    const copyBytesPerSecond = await measureCopy(gpu, sampleCount);
    const encoding = await timeEncoding(gpu, plan);
    const steps: StepTimes[] = [];
    for (const rows of profiledRows) {
      setTurns(gpu, sequences, new Map([[0, rows - 1]]));
      submitPass(gpu, 'profiled rows', (pass) => encodeStep(pass, plan.rows.verifyAll, { rows, blocks: 1 }));
      await profile(gpu, target.forward, rows, sampleCount, steps);
    }
    const speedupOf = (alpha: number) =>
      costs.v.map((v, k) => (k === 0 ? 1 : expectedTokensPerRound(alpha, k) / roundCost(costs.c as number, v, k)));
    return {
      ...options,
      adapter: adapterLine(gpu),
      costs,
      layerCounts: { target: target.config.layerCount, draft: draft.config.layerCount },
      draftTokens: { head: draft.forward.vocabSize, vocabulary: draft.config.vocabSize },
      weightBytes: { target: target.weights.sizeBytes, draft: draft.weights.sizeBytes },
      bytesPerSecond: (1000 * target.weights.sizeBytes) / costs.targetStepMs,
      copyBytesPerSecond,
      encoding,
      steps,
      speedups: [0.5, 0.7, 0.9].map((alpha) => ({ alpha, byDraftLength: speedupOf(alpha) })),
    };
  } finally {
    closeGpu(gpu);
  }
}

/** A device that was idle begins at a fraction of its clock. */
async function warmUp(gpu: Gpu, plan: RoundPlan): Promise<void> {
  const end = performance.now() + 1000;
  while (performance.now() < end) {
    for (let i = 0; i < 8; i++) {
      submitPass(gpu, 'warm-up', (pass) => encodeVerify(pass, plan, { rows: 8, blocks: 1 }, 'greedy'));
    }
    await gpuIdle(gpu);
  }
}

/** Several passes to a sample, for clocks that tick ten times a millisecond; the device rests between them. */
async function timeEncoding(gpu: Gpu, plan: RoundPlan): Promise<ShapesReport['encoding']> {
  const passes = 4;
  const encode = (pass: Pass) => encodeVerify(pass, plan, { rows: 1, blocks: 1 }, 'greedy');
  const samples: number[] = [];
  for (let sample = 0; sample < 9; sample++) {
    await gpuIdle(gpu);
    const start = performance.now();
    for (let i = 0; i < passes; i++) submitPass(gpu, 'encoding', encode);
    samples.push((performance.now() - start) / passes);
  }
  await gpuIdle(gpu);
  const { ms, leastMs } = timingOf(samples);
  return { ms, leastMs, dispatches: countDispatches(encode) };
}

/** Times the steps of each kind by themselves, every layer's in turn so that no cache holds their weights. */
async function profile(
  gpu: Gpu,
  forward: Forward,
  rows: number,
  sampleCount: number,
  into: StepTimes[],
): Promise<void> {
  const kinds = stepGroups(forward);
  const encode = (steps: readonly Step[]) => (pass: Pass) => {
    for (const step of steps) encodeStep(pass, step, { rows, blocks: 1 });
  };
  const times = await timePasses(
    gpu,
    kinds.map(({ steps }) => encode(steps)),
    { sampleCount, sampleMs: 20 },
  );
  for (const [i, { label, steps }] of kinds.entries()) {
    into[i] ??= { label, dispatches: steps.length, microseconds: [] };
    into[i].microseconds.push(1000 * (times[i]?.ms as number));
  }
}

/** The bandwidth of a copy by a shader, of more than caches hold. The copies of the API are slower on some devices. */
async function measureCopy(gpu: Gpu, sampleCount: number): Promise<number> {
  const sizeBytes = Math.min(2 ** 28, bindingLimit(gpu.device.limits));
  const buffers = {
    source: createStorage(gpu, 'copy source', sizeBytes),
    destination: createStorage(gpu, 'copy destination', sizeBytes),
  };
  const [x, y] = foldedGrid(sizeBytes / 16 / 256);
  const pipeline = await createPipeline(gpu, copyKernel, {});
  const step: Step = {
    label: 'copy',
    bindGroup: createBindGroup(gpu, copyKernel, buffers),
    pipeline: () => pipeline,
    grid: () => [x, y, 1],
  };
  const copy = (pass: Pass) => encodeStep(pass, step, { rows: 1, blocks: 0 });
  const [timing] = await timePasses(gpu, [copy], { sampleCount, sampleMs: 20 });
  for (const buffer of Object.values(buffers)) destroyBuffer(gpu, buffer);
  return (2000 * sizeBytes) / (timing?.ms as number);
}

const copyKernel: Kernel = {
  name: 'copy',
  code: `
    @group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
    @group(0) @binding(1) var<storage, read_write> destination: array<vec4<u32>>;
    @compute @workgroup_size(256)
    fn main(
      @builtin(workgroup_id) group: vec3<u32>,
      @builtin(num_workgroups) counts: vec3<u32>,
      @builtin(local_invocation_index) lane: u32,
    ) {
      let i = (group.x + group.y * counts.x) * 256u + lane;
      if (i < arrayLength(&source)) { destination[i] = source[i]; }
    }`,
  bindings: [
    { name: 'source', kind: 'read' },
    { name: 'destination', kind: 'write' },
  ],
  overrides: [],
  params: [],
};

export function shapesMarkdown(report: ShapesReport): string {
  const { shapes, dtype, costs, layerCounts, draftTokens, weightBytes, adapter } = report;
  const row = (...cells: (string | number)[]) => `| ${cells.join(' | ')} |`;
  const ks = costs.v.map((_, k) => k);
  const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1);
  const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  return [
    `## ${shapes}, ${dtype}, random weights: ${adapter}`,
    '',
    `Layers: target ${layerCounts.target}, draft ${layerCounts.draft}; the draft proposes ${draftTokens.head} of ` +
      `${draftTokens.vocabulary} tokens; weights ${mib(weightBytes.target)}, ${mib(weightBytes.draft)}. ` +
      `Target step ${costs.targetStepMs.toFixed(2)} ms (${gigabytes(report.bytesPerSecond)} GB/s; a copy: ` +
      `${gigabytes(report.copyBytesPerSecond)}), draft step ${costs.draftStepMs?.toFixed(2)} ms, ` +
      `c = ${costs.c?.toFixed(3)}; ${costs.sampleCount} samples. ` +
      `The host encodes and submits the ${report.encoding.dispatches} dispatches of a target's pass in ` +
      `${report.encoding.ms.toFixed(2)} ms (least ${report.encoding.leastMs.toFixed(2)}).`,
    '',
    row('k', ...ks),
    row(...['', ...ks].map(() => '---')),
    row('v(k + 1)', ...costs.v.map((v) => v.toFixed(2))),
    row('±', ...costs.vSpread.map((spread) => `${(100 * spread).toFixed(0)} %`)),
    ...report.speedups.map(({ alpha, byDraftLength }) =>
      row(`S at α = ${alpha}`, ...byDraftLength.map((speedup) => speedup.toFixed(2))),
    ),
    '',
    row('step', 'dispatches', ...profiledRows.map((rows) => `µs, ${rows} rows`)),
    row(...['', '', ...profiledRows].map(() => '---')),
    ...report.steps.map(({ label, dispatches, microseconds }) =>
      row(label, dispatches, ...microseconds.map((value) => value.toFixed(0))),
    ),
    '',
  ].join('\n');
}

/** @throws Error with the names there are. */
function configOf(name: string, layers: number | null): ModelConfig {
  const json = published[name];
  if (json === undefined) {
    throw new Error(`Expected --shapes out of ${Object.keys(published).join(', ')}, joined by +; got ${name}.`);
  }
  const layerCount = Math.min(json.num_hidden_layers as number, layers ?? Number.POSITIVE_INFINITY);
  return parseConfig({ ...json, num_hidden_layers: layerCount }, name);
}

/** Weights that are small and finite, one block of random bits again and again: their values cost no time. */
function randomWeights(gpu: Gpu, label: string, config: ModelConfig, dtype: WeightFormat): Weights {
  // As weightFormats has it: the vocabulary keeps a finer format than q4.
  const formats = { layers: dtype, vocabulary: dtype === 'q4' ? ('q8' as const) : dtype };
  const bytesBefore = gpu.bytes;
  const block = new Uint32Array(2 ** 18);
  const fill = (buffer: GPUBuffer, isHalf: boolean): GPUBuffer => {
    crypto.getRandomValues(block.subarray(0, 2 ** 14));
    for (let size = 2 ** 14; size < block.length; size *= 2) block.copyWithin(size, 0, size);
    // Halves of magnitude 2^-8 to 2^-6.
    if (isHalf) block.set(block.map((word) => (word & 0x87ff_87ff) | 0x1c00_1c00));
    for (let offset = 0; offset < buffer.size; offset += block.byteLength) {
      const size = Math.min(block.byteLength, buffer.size - offset);
      gpu.device.queue.writeBuffer(buffer, offset, block, 0, size / 4);
    }
    return buffer;
  };
  const noScales = createStorage(gpu, 'no scales', 16);
  const matrix = (outputSize: number, inputSize: number, format: WeightFormat): PackedMatrix => {
    const bytes = packedBytes({ outputSize, inputSize }, format);
    const isHalf = format === 'f16';
    return {
      buffer: fill(createStorage(gpu, `${label} weight`, bytes.words), isHalf),
      scales: isHalf ? noScales : fill(createStorage(gpu, `${label} scales`, bytes.scales), true),
      format,
      outputSize,
      inputSize,
      ...segmentsOf(inputSize, format),
    };
  };
  const { hiddenSize, ffnSize, headCount, kvHeadCount, headDim, vocabSize, layerCount } = config;
  const ones = () => createStorageFrom(gpu, `${label} norm`, new Float32Array(hiddenSize).fill(1));
  const linear = (outputSize: number, inputSize: number) => ({
    weight: [{ firstRow: 0, matrix: matrix(outputSize, inputSize, formats.layers) }],
    bias: null,
  });
  const embedding = [{ firstRow: 0, matrix: matrix(vocabSize, hiddenSize, formats.vocabulary) }];
  const layers = Array.from({ length: layerCount }, () => ({
    attentionInputNorm: ones(),
    attentionOutputNorm: null,
    ffnInputNorm: ones(),
    ffnOutputNorm: null,
    headNorm: null,
    qkv: linear((headCount + 2 * kvHeadCount) * headDim, hiddenSize),
    attentionOutput: linear(hiddenSize, headCount * headDim),
    gateUp: linear(2 * ffnSize, hiddenSize),
    down: linear(hiddenSize, ffnSize),
  }));
  const finalNorm = ones();
  return { embedding, layers, finalNorm, head: embedding, parameterCount: 0, sizeBytes: gpu.bytes - bytesBefore };
}
