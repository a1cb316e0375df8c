/**
 * What passes of the embedded target cost beside each other: a long context against a short one, a prompt against
 * decoding, a pass against its matmuls, and drafts looked up in the text against none. Each figure stands beside what is
 * asked of it. Everything is timed in one run, by turns; no time is printed where tokens differ or logits are not finite.
 */
import { createStorage } from '../../src/gpu/buffers.ts';
import { closeGpu, type Gpu, openGpu } from '../../src/gpu/device.ts';
import {
  createBindGroup,
  createPipeline,
  encodeStep,
  type Kernel,
  type Pass,
  type PassShape,
  type Step,
} from '../../src/gpu/kernel.ts';
import { readBuffer } from '../../src/gpu/readback.ts';
import { gpuIdle, submitPass } from '../../src/gpu/submit.ts';
import type { KernelKind } from '../../src/kernels/kernel_kind.ts';
import type { ModelConfig } from '../../src/model/config.ts';
import { createForward, dispatchesPerPass, encodeForward, type Forward } from '../../src/model/forward.ts';
import { openPair, readWeights } from '../../src/model/load.ts';
import { urlSource } from '../../src/model/source.ts';
import { fasterKernels, typicalMatrix } from '../../src/model/tune.ts';
import { uploadWeights, type Weights, weightFormats } from '../../src/model/weights.ts';
import {
  blocksOf,
  createRoundPlan,
  encodePrefill,
  type PrefillChunk,
  prefillChunks,
  type RoundMode,
  type RoundPlan,
} from '../../src/speculative/round.ts';
import { greedySampling } from '../../src/speculative/sampler.ts';
import {
  createSequences,
  type Sequences,
  setTurns,
  startSequence,
  stateFields,
} from '../../src/speculative/sequence.ts';
import { prompts } from '../reference/prompts.ts';
import { atLeast, atMost, type Row } from './asked.ts';
import { benchNgram, type NgramReport, ngramRows } from './passes_ngram.ts';
import { kernelGroups, type StepGroup, stepGroups } from './steps.ts';
import { adapterLine, type Timing, timePasses, withTimestamps } from './timing.ts';

export type PassesOptions = { sampleCount: number };

/** Decode passes with few, some and many tokens of context; a token of a prompt's first chunk, and of a whole prompt. */
type PassTimes = Record<'few' | 'some' | 'many' | 'chunkToken' | 'promptToken' | 'emptyDispatch', Timing>;

export type PassesReport = {
  adapter: string;
  sampleCount: number;
  times: PassTimes;
  /** Steps of one decode pass by themselves: few tokens of context, and many. */
  steps: { label: string; dispatches: number; few: Timing; many: Timing }[];
  /** Steps of a chunk of a prompt. */
  chunkSteps: { label: string; dispatches: number; timing: Timing }[];
  rows: Row[];
  ngram: NgramReport;
};

const [fewTokens, someTokens, manyTokens] = [50, 500, 1000] as const;
const contextLength = 1024;
const rowCapacity = 64;
const mode: RoundMode = { sampling: 'greedy', logprobs: false };
/** A sample repeats its pass until it takes this long. */
const sampleMs = 50;
/** Dispatches of the empty kernel to a pass that times it. */
const emptyCount = 64;

export async function benchPasses({ sampleCount }: PassesOptions): Promise<PassesReport> {
  const page = globalThis.location?.href ?? 'http://localhost/';
  const source = urlSource('/models/stories-3m/', page);
  const gpu = await openGpu(withTimestamps(navigator.gpu));
  try {
    const { target } = await openPair(source, null);
    const tensors = readWeights(target, 'target');
    const weights = await uploadWeights(gpu, 'target', target, tensors, weightFormats(target, null));
    const story = prompts.flatMap((prompt) => target.tokenizer.encode(prompt));
    const text = Array.from({ length: manyTokens }, (_, i) => story[i % story.length] as number);
    const kernelKind = await fasterKernels(gpu, typicalMatrix(weights));
    const open = (length: number) => openPasses(gpu, target.config, { weights, kernelKind }, text.slice(0, length));
    // A cache and rows of its own to each kind of pass, for all of them to be run by turns.
    const decoders = { few: await open(fewTokens), some: await open(someTokens), many: await open(manyTokens) };
    const prompt = await open(manyTokens);
    const chunk = await open(rowCapacity);
    const all = [...Object.values(decoders), prompt, chunk];
    for (const passes of all) await passes.check();
    console.log('tokens of tiles and of single rows: equal');

    const empty = await emptySteps(gpu);
    const chunks = prefillChunks(0, manyTokens, rowCapacity);
    const kinds = [
      decoders.few.decode,
      decoders.some.decode,
      decoders.many.decode,
      chunk.feed(chunks.slice(0, 1)),
      prompt.feed(chunks),
      (pass: Pass) => {
        for (let i = 0; i < emptyCount; i++) encodeStep(pass, empty[i % 2] as Step, { rows: 1, blocks: 0 });
      },
    ];
    const inGroups = (groups: readonly StepGroup[], shape: PassShape) =>
      groups.map(({ steps }) => (pass: Pass) => {
        for (const step of steps) encodeStep(pass, step, shape);
      });
    const groups = stepGroups(decoders.few.forward);
    const chunkGroups = kernelGroups(chunk.forward.body.tile);
    const groupKinds = [
      ...inGroups(groups, decoders.few.shape),
      ...inGroups(stepGroups(decoders.many.forward), decoders.many.shape),
      // Fed above, so that its rows are in their buffer.
      ...inGroups(chunkGroups, { rows: rowCapacity, blocks: 1 }),
    ];
    const timings = await timePasses(gpu, [...kinds, ...groupKinds], { sampleMs, sampleCount });
    // What was timed still computes what it did before.
    for (const passes of all) await passes.check();
    const [few, some, many, chunkPass, promptPass, emptyPass] = timings;
    const times = {
      few,
      some,
      many,
      chunkToken: divided(chunkPass as Timing, rowCapacity),
      promptToken: divided(promptPass as Timing, manyTokens),
      emptyDispatch: divided(emptyPass as Timing, emptyCount),
    } as PassTimes;
    const groupTimings = timings.slice(kinds.length);
    const steps = groups.map(({ label, steps: { length: dispatches } }, i) => ({
      label,
      dispatches,
      few: groupTimings[i] as Timing,
      many: groupTimings[groups.length + i] as Timing,
    }));
    const chunkSteps = chunkGroups.map(({ label, steps: { length: dispatches } }, i) => ({
      label,
      dispatches,
      timing: groupTimings[2 * groups.length + i] as Timing,
    }));
    const matmuls = steps.filter(({ label }) => /matmul_(rows|lane)$/.test(label)).map((step) => step.few);
    const passRows = rowsOf(times, matmuls, target.config, dispatchesPerPass(decoders.few.forward));
    const ngram = await benchNgram(source, { repeats: sampleCount });
    const rows = [...passRows, ...ngramRows(ngram)];
    return { adapter: adapterLine(gpu), sampleCount, times, steps, chunkSteps, rows, ngram };
  } finally {
    closeGpu(gpu);
  }
}

/** `matmuls`: of a decode pass with few tokens of context, by themselves. */
function rowsOf(times: PassTimes, matmuls: readonly Timing[], config: ModelConfig, dispatches: number): Row[] {
  const { few, some, many, chunkToken, promptToken, emptyDispatch } = times;
  const moreWork = multiplyAdds(config, manyTokens) / multiplyAdds(config, fewTokens);
  const matmulsMs = (key: 'ms' | 'leastMs') => matmuls.reduce((total, timing) => total + timing[key], 0);
  const budget = (key: 'ms' | 'leastMs') => matmulsMs(key) + dispatches * emptyDispatch[key];
  return [
    atMost(1.2, {
      what: `Context: time at ${manyTokens} tokens / at ${fewTokens}, by that of their multiply-adds`,
      value: many.ms / few.ms / moreWork,
      fastest: many.leastMs / few.leastMs / moreWork,
      spread: spreadOf(few, many),
      detail: `${(many.ms / few.ms).toFixed(2)} / ${moreWork.toFixed(2)}`,
    }),
    atLeast(2, {
      what: `Prompt: a decode pass at ${fewTokens} tokens / a token of a chunk of ${rowCapacity}`,
      value: few.ms / chunkToken.ms,
      fastest: few.leastMs / chunkToken.leastMs,
      spread: spreadOf(few, chunkToken),
    }),
    // The tokens of a prompt see half of it, on average.
    atLeast(2, {
      what: `Prompt: a decode pass at ${someTokens} tokens / a token of a prompt of ${manyTokens}`,
      value: some.ms / promptToken.ms,
      fastest: some.leastMs / promptToken.leastMs,
      spread: spreadOf(some, promptToken),
    }),
    atMost(1.4, {
      what: `Budget: a decode pass / (its matmuls + ${dispatches} empty dispatches)`,
      value: few.ms / budget('ms'),
      fastest: few.leastMs / budget('leastMs'),
      spread: spreadOf(few, emptyDispatch, ...matmuls),
      detail: `${few.ms.toFixed(2)} / (${matmulsMs('ms').toFixed(2)} + ${(dispatches * emptyDispatch.ms).toFixed(2)}) ms`,
    }),
  ];
}

/**
 * Multiply-adds of a pass over one row that sees n positions. Weights: D · (H + 2K) · d for q, k and v, H · d · D for
 * the output, 3 · D · F for gate, up and down, in each layer, and D · V for the head. Attention: H · d · n for the scores
 * and as many for the values, in each layer.
 */
function multiplyAdds(config: ModelConfig, positions: number): number {
  const { hiddenSize, ffnSize, headCount, kvHeadCount, headDim, vocabSize, layerCount } = config;
  const queryWidth = headCount * headDim;
  const layer = hiddenSize * (2 * queryWidth + 2 * kvHeadCount * headDim + 3 * ffnSize);
  return layerCount * (layer + 2 * queryWidth * positions) + hiddenSize * vocabSize;
}

type Encode = (pass: Pass) => void;

/** Passes over one text. */
type Passes = {
  forward: Forward;
  /** Of the decode pass. */
  shape: PassShape;
  /** The last token again, with its logits. */
  decode: Encode;
  /** Chunks of the text from its start, in tiles. */
  feed(chunks: readonly PrefillChunk[]): Encode;
  /** @throws Error, and so without a time, where the token after the text is not the one that the tiles gave. */
  check(): Promise<void>;
};

async function openPasses(
  gpu: Gpu,
  config: ModelConfig,
  { weights, kernelKind }: { weights: Weights; kernelKind: KernelKind },
  text: number[],
): Promise<Passes> {
  const size = { slots: 1, contextLength, rowCapacity, paddedRows: false, kernelKind };
  const forward = await createForward(gpu, `${text.length} tokens`, config, weights, size);
  const sequences = createSequences(gpu, { slots: 1, contextLength, vocabSize: config.vocabSize });
  const plan = await createRoundPlan(gpu, { target: forward, draft: null }, { sequences });
  const rewind = await rewindStep(gpu, sequences);
  startSequence(gpu, sequences, 0, 0, {
    promptTokens: text,
    emittedTokens: [],
    targetFed: 0,
    draftFed: 0,
    limit: contextLength,
    stopTokens: [],
    sampling: greedySampling,
    logprobs: false,
    topLogprobs: 0,
  });
  setTurns(gpu, sequences, new Map([[0, 0]]));
  const feed = (chunks: readonly PrefillChunk[]) => (pass: Pass) => {
    encodeStep(pass, rewind, { rows: 1, blocks: 0 });
    for (const chunk of chunks) encodePrefill(pass, plan, 0, chunk, false, mode);
  };
  const shape = { rows: 1, blocks: blocksOf(forward, text.length) };
  const decode: Encode = (pass) => encodeForward(pass, forward, shape, 1);
  const likeliest = async (): Promise<number> => {
    const logits = new Float32Array(await readBuffer(gpu, forward.logits)).subarray(0, config.vocabSize);
    if (!logits.every(Number.isFinite)) throw new Error('Expected finite logits. No time is worth printing.');
    return logits.indexOf(Math.max(...logits));
  };
  const expected = await tokenOfTiles(gpu, plan, feed, text.length, likeliest);
  return {
    forward,
    shape,
    decode,
    feed,
    async check() {
      // Steps timed by themselves left other keys and values behind.
      submitPass(gpu, 'bench prompt', feed(prefillChunks(0, text.length, rowCapacity)));
      // The row stays in the buffer for all passes that follow.
      submitPass(gpu, 'bench row', (pass) => encodeStep(pass, plan.rows.verify, shape));
      submitPass(gpu, 'bench check', decode);
      const token = await likeliest();
      if (token !== expected) {
        throw new Error(`Expected token ${expected} as of tiles, got ${token} of one row. No time is worth printing.`);
      }
    },
  };
}

/** The token after the text, from its last rows in tiles. */
async function tokenOfTiles(
  gpu: Gpu,
  { target }: RoundPlan,
  feed: Passes['feed'],
  length: number,
  likeliest: () => Promise<number>,
): Promise<number> {
  const chunks = prefillChunks(0, length, rowCapacity);
  const { rows } = chunks.at(-1) as PrefillChunk;
  submitPass(gpu, 'bench prompt', (pass) => {
    feed(chunks)(pass);
    encodeForward(pass, target, { rows, blocks: blocksOf(target, length) }, 1, { tiled: true });
  });
  await gpuIdle(gpu);
  return likeliest();
}

/** Lets the prompt be fed again, within a pass. */
async function rewindStep(gpu: Gpu, { state }: Sequences): Promise<Step> {
  const pipeline = await createPipeline(gpu, rewindKernel, {});
  const bindGroup = createBindGroup(gpu, rewindKernel, { state });
  return { label: 'rewind', bindGroup, pipeline: () => pipeline, grid: () => [1, 1, 1] };
}

const rewindKernel: Kernel = {
  name: 'rewind',
  code: `
    @group(0) @binding(0) var<storage, read_write> state: array<u32>;
    @compute @workgroup_size(1)
    fn main() { state[${stateFields.targetFed}] = 0u; }`,
  bindings: [{ name: 'state', kind: 'write' }],
  overrides: [],
  params: [],
};

/** Two dispatches that do nothing, but each of which could read what the other could write: as steps of a pass, they wait. */
async function emptySteps(gpu: Gpu): Promise<Step[]> {
  const pipeline = await createPipeline(gpu, emptyKernel, {});
  const [first, second] = ['first', 'second'].map((name) => createStorage(gpu, `empty ${name}`, 4096));
  const pairs = [
    { input: first, output: second },
    { input: second, output: first },
  ] as { input: GPUBuffer; output: GPUBuffer }[];
  return pairs.map((buffers) => {
    const bindGroup = createBindGroup(gpu, emptyKernel, buffers);
    return { label: 'empty', bindGroup, pipeline: () => pipeline, grid: () => [1, 1, 1] };
  });
}

const emptyKernel: Kernel = {
  name: 'empty',
  code: `
    @group(0) @binding(0) var<storage, read> input: array<u32>;
    @group(0) @binding(1) var<storage, read_write> output: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(local_invocation_index) lane: u32) {
      if (lane < 64u) { return; }
      output[lane] = input[lane];
    }`,
  bindings: [
    { name: 'input', kind: 'read' },
    { name: 'output', kind: 'write' },
  ],
  overrides: [],
  params: [],
};

const divided = ({ ms, leastMs, spread }: Timing, count: number): Timing => ({
  ms: ms / count,
  leastMs: leastMs / count,
  spread,
});
/** Of a ratio: the largest of those that it is made of. */
const spreadOf = (...timings: Timing[]) => Math.max(...timings.map(({ spread }) => spread));

export function passesMarkdown({ adapter, sampleCount, times, steps, chunkSteps, rows, ngram }: PassesReport): string {
  const row = (...cells: (string | number)[]) => `| ${cells.join(' | ')} |`;
  const percent = (spread: number) => `${(100 * spread).toFixed(0)} %`;
  const names: [keyof PassTimes, string][] = [
    ['few', `decode pass, ${fewTokens} tokens of context`],
    ['some', `decode pass, ${someTokens} tokens`],
    ['many', `decode pass, ${manyTokens} tokens`],
    ['chunkToken', `chunk of ${rowCapacity} tokens of a prompt, per token`],
    ['promptToken', `prompt of ${manyTokens} tokens, per token`],
    ['emptyDispatch', 'empty dispatch'],
  ];
  const microseconds = ({ ms }: Timing) => (1000 * ms).toFixed(0);
  return [
    `## Passes of the embedded target: ${adapter}`,
    '',
    `Medians of ${sampleCount} samples, all kinds by turns. ±: median distance of the samples from their median, the largest of a ratio's parts.`,
    '',
    row('what', 'measured', '±', 'of the fastest', 'asked', 'reached'),
    row('---', '---:', '---:', '---:', '---:', '---'),
    ...rows.map(({ what, measured, spread, fastest, asked, reached }) =>
      row(what, measured, percent(spread), fastest?.toFixed(2) ?? '', asked, reached ? 'yes' : 'no'),
    ),
    '',
    `Looked up: ${ngram.prompts} prompts of repeated text, whose greedy continuations repeat themselves, ${ngram.tokens} tokens each; plain ${ngram.plainMs.toFixed(2)} ms a token. ` +
      `v of k = 0..7 as measured at load: ${ngram.v.map((v) => v.toFixed(2)).join(' ')}.`,
    '',
    row('time of', 'µs', '±'),
    row('---', '---:', '---:'),
    ...names.map(([key, name]) => row(name, microseconds(times[key]), percent(times[key].spread))),
    '',
    `Steps of a decode pass by themselves, those of all layers together, at ${fewTokens} tokens of context and at ${manyTokens}:`,
    '',
    row('step', 'dispatches', `µs at ${fewTokens}`, `µs at ${manyTokens}`),
    row('---', '---:', '---:', '---:'),
    ...steps.map(({ label, dispatches, few, many }) => row(label, dispatches, microseconds(few), microseconds(many))),
    '',
    `Steps of a chunk of ${rowCapacity} tokens of a prompt, those of one kernel together:`,
    '',
    row('step', 'dispatches', 'µs', 'µs per token'),
    row('---', '---:', '---:', '---:'),
    ...chunkSteps.map(({ label, dispatches, timing }) =>
      row(label, dispatches, microseconds(timing), microseconds(divided(timing, rowCapacity))),
    ),
    '',
  ].join('\n');
}
