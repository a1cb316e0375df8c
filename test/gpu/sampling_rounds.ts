/**
 * Rounds of thousands of sequences at once, each with a seed of its own, from uploaded logits: the engine's own steps
 * from logits to committed tokens, without the models. What comes out is a sample of the distribution of a round.
 */
import { createStorageFrom, destroyBuffer } from '../../src/gpu/buffers.ts';
import { acceptStep } from '../../src/kernels/accept.ts';
import { chunksOf } from '../../src/kernels/argmax.ts';
import { argmaxFoldStep } from '../../src/kernels/argmax_fold.ts';
import { rejectStep } from '../../src/kernels/reject.ts';
import { residualStep } from '../../src/kernels/residual.ts';
import { sampleStep } from '../../src/kernels/sample.ts';
import { thresholdStep } from '../../src/kernels/threshold.ts';
import { warpStep } from '../../src/kernels/warp.ts';
import { parseRecord, RECORD_WORDS } from '../../src/speculative/record.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import type { Seed } from '../reference/threefry.ts';
import type { SamplingOptions } from '../reference/warp.ts';
import { device, empty, floats, readFloats, readUints, run, withShaders, words } from './kernel_bench.ts';
import { newSequence, rowsInSlots, stateOf } from './sampling_bench.ts';

/** The logits of a model, (contexts, V), as f32 has them. */
export type Table = readonly Float64Array[];

/** Code of a shader variant in, code out. */
type Rewrite = (label: string, code: string) => string;

export type Simulation = {
  target: Table;
  draft: Table;
  /**
   * Which row of the table a token is drawn from. `position`: row i for the i-th token of the round, the same for all
   * sequences; one round only. `token`: the row of the token before it (token 0 precedes the first), so that drafts
   * decide what follows.
   */
  context: 'position' | 'token';
  /** `coupled`: seeded requests; `rejection`: requests without a seed. */
  mode: 'coupled' | 'rejection';
  k: number;
  options: SamplingOptions;
  sequenceCount: number;
  /** Tokens wanted of each sequence: rounds go on until all have them. */
  tokenCount: number;
  /** High words of the seeds; the low ones count the sequences. */
  seedHigh: number;
  /** A planted fault: in the shaders of one side up to its tokens, or in those after them. */
  fault?: { where: 'draft' | 'target' | 'verdict'; rewrite: Rewrite };
};

export type SimulationResult = {
  /** Committed tokens by sequence, tokenCount of them or more. */
  tokens: number[][];
  /** Of the first round. */
  acceptedCounts: number[];
};

/** Committed tokens at the start. */
export const startLength = 3;

export const seedOf = ({ seedHigh }: Simulation, sequence: number): Seed => [sequence, seedHigh];

type Faults = { within: <T>(where: string, work: () => Promise<T>) => Promise<T>; expectPlanted: () => void };

/** Runs with the fault, if it belongs there, in the shaders compiled meanwhile. */
function faultsOf({ fault }: Simulation): Faults {
  let isPlanted = fault === undefined;
  const within: Faults['within'] = async (where, work) => {
    if (fault?.where !== where) return work();
    const rewrite = (label: string, code: string) => {
      const changed = fault.rewrite(label, code);
      isPlanted ||= changed !== code;
      return changed;
    };
    return withShaders(rewrite, work);
  };
  const expectPlanted = () => {
    if (!isPlanted) throw new Error('Expected the planted fault to change a shader, it changed none.');
  };
  return { within, expectPlanted };
}

export async function simulate(simulation: Simulation): Promise<SimulationResult> {
  const gpu = device();
  const kept = new Set(gpu.buffers);
  try {
    const faults = faultsOf(simulation);
    const target = await faults.within('target', () => distribute(simulation.target, simulation.options));
    const draft = await faults.within('draft', () => distribute(simulation.draft, simulation.options));
    const result = await runRounds(simulation, { target, draft, faults });
    faults.expectPlanted();
    return result;
  } finally {
    for (const buffer of gpu.buffers) if (!kept.has(buffer)) destroyBuffer(gpu, buffer);
  }
}

/** What reject.wgsl and its like read of one side: (rows, V) and (rows, 4), and where row i of each sequence is. */
type Rows = { warped: GPUBuffer; distributions: GPUBuffer; firstRow: number; rowStride: number };

/** All rows of a table, warped, on the GPU and here. */
type Distributed = Pick<Rows, 'warped' | 'distributions'> & {
  warpedWords: Float32Array;
  distributionWords: Float32Array;
};

async function distribute(table: Table, options: SamplingOptions): Promise<Distributed> {
  const gpu = device();
  const vocabSize = table[0]!.length;
  const [warped, distributions] = [empty(table.length * vocabSize), empty(table.length * 4)];
  const logits = new Float32Array(table.length * vocabSize);
  table.forEach((row, m) => {
    logits.set(row, m * vocabSize);
  });
  const rows = rowsInSlots(table.map(() => ({ slot: 0, position: startLength - 1 })));
  const state = words(stateOf([newSequence({ promptLength: startLength, length: startLength, options })]));
  const at = { vocabSize, firstRow: 0, rowStride: 1 };
  run(
    { rows: table.length, blocks: 1 },
    await warpStep(
      gpu,
      { rows, state, logits: floats(logits), adjustments: empty(2), warped },
      { ...at, adjustedTokens: 1 },
    ),
    await thresholdStep(gpu, { rows, state, warped, distributions }, at),
  );
  const [warpedWords, distributionWords] = [await readFloats(warped), await readFloats(distributions)];
  return { warped, distributions, warpedWords, distributionWords };
}

type Models = { target: Distributed; draft: Distributed; faults: Faults };

async function runRounds(simulation: Simulation, models: Models): Promise<SimulationResult> {
  const { options, sequenceCount, tokenCount, mode } = simulation;
  const sequences = Array.from({ length: sequenceCount }, (_, slot) =>
    newSequence({
      seed: seedOf(simulation, slot),
      promptLength: startLength,
      length: startLength,
      options,
      mode: mode === 'coupled' ? 'seeded' : 'random',
    }),
  );
  const state = stateOf(sequences);
  const tokens: number[][] = Array.from({ length: sequenceCount }, () => []);
  let acceptedCounts: number[] | null = null;
  while (tokens.some(({ length }) => length < tokenCount)) {
    const records = await runRound(simulation, models, state, tokens);
    acceptedCounts ??= records.map(({ acceptedCount }) => acceptedCount);
    records.forEach((record, slot) => {
      tokens[slot]!.push(...record.tokens);
      state[slot * stateWords + stateFields.length] = record.length;
      // A sequence that has enough stands still.
      state[slot * stateWords + stateFields.finish] = Number(tokens[slot]!.length >= tokenCount);
    });
  }
  return { tokens, acceptedCounts: acceptedCounts ?? [] };
}

async function runRound(
  simulation: Simulation,
  { target, draft, faults }: Models,
  state: Uint32Array<ArrayBuffer>,
  tokens: readonly number[][],
) {
  const { context, mode, k, sequenceCount } = simulation;
  const vocabSize = simulation.target[0]!.length;
  const gpu = device();
  const stateBuffer = createStorageFrom(gpu, 'state', state);
  const candidates = empty(sequenceCount * chunksOf(vocabSize) * 2);
  const sampled = empty(sequenceCount);
  const positions = tokens.map(({ length }) => startLength + length);
  const drafts: Uint32Array[] = []; // (K, sequences)
  const tokenBefore = (i: number, slot: number) => (i > 0 ? drafts[i - 1]![slot]! : (tokens[slot]!.at(-1) ?? 0));

  /** Rows first..first + count − 1 of the round, of every sequence. */
  function rowsOf(side: Distributed, first: number, count: number): Rows {
    if (context === 'position') return { ...side, firstRow: first, rowStride: 0 };
    const warped = new Float32Array(sequenceCount * count * vocabSize);
    const distributions = new Float32Array(sequenceCount * count * 4);
    for (let row = 0; row < sequenceCount * count; row++) {
      const token = tokenBefore(first + (row % count), Math.floor(row / count));
      warped.set(side.warpedWords.subarray(token * vocabSize, (token + 1) * vocabSize), row * vocabSize);
      distributions.set(side.distributionWords.subarray(token * 4, (token + 1) * 4), row * 4);
    }
    return {
      warped: createStorageFrom(gpu, 'warped', warped),
      distributions: createStorageFrom(gpu, 'distributions', distributions),
      firstRow: 0,
      rowStride: count,
    };
  }

  /** A token of row i for each sequence. */
  async function choose(side: Distributed, i: number): Promise<Uint32Array> {
    const { warped, distributions, firstRow, rowStride } = rowsOf(side, i, 1);
    const rows = rowsInSlots(positions.map((position, slot) => ({ slot, position: position - 1 + i })));
    const buffers = { rows, state: stateBuffer, warped, distributions, candidates };
    const pass = { rows: sequenceCount, blocks: 1 };
    run(pass, await sampleStep(gpu, buffers, { vocabSize, firstRow, rowStride }));
    if (chunksOf(vocabSize) === 1) return (await readUints(candidates)).filter((_, word) => word % 2 === 1);
    run(pass, await argmaxFoldStep(gpu, { rows, candidates, sampled }, { vocabSize }));
    return readUints(sampled);
  }

  for (let i = 0; i < k; i++) {
    drafts.push(await faults.within('draft', () => choose(draft, i)));
    for (let slot = 0; slot < sequenceCount; slot++) {
      state[slot * stateWords + stateFields.drafts + i] = drafts[i]![slot]!;
      state[slot * stateWords + stateFields.draftCount] = k;
    }
  }
  // Where its rows are: all may share those of a position.
  const placeRows = (targetStride: number, draftStride: number) => {
    for (let slot = 0; slot < sequenceCount; slot++) {
      state[slot * stateWords + stateFields.firstRow] = slot * targetStride;
      state[slot * stateWords + stateFields.firstDraftRow] = slot * draftStride;
    }
    gpu.device.queue.writeBuffer(stateBuffer, 0, state);
  };

  const record = empty(sequenceCount * RECORD_WORDS);
  const acceptOf = (tokens: { targetTokens: GPUBuffer; nextTokens: GPUBuffer }) =>
    acceptStep(
      gpu,
      { ...tokens, state: stateBuffer, history: empty(sequenceCount * 64), record, adjustments: empty(2) },
      { slots: sequenceCount, historyStride: 64, vocabSize },
    );
  if (mode === 'coupled') {
    const targetTokens = new Uint32Array(sequenceCount * (k + 1));
    for (let i = 0; i <= k; i++) {
      const chosen = await faults.within('target', () => choose(target, i));
      for (let slot = 0; slot < sequenceCount; slot++) targetTokens[slot * (k + 1) + i] = chosen[slot]!;
    }
    placeRows(k + 1, k);
    const tokens = { targetTokens: createStorageFrom(gpu, 'target tokens', targetTokens), nextTokens: empty(1) };
    run({ rows: 1, blocks: 1 }, await acceptOf(tokens));
  } else {
    const [targetRows, draftRows] = [rowsOf(target, 0, k + 1), rowsOf(draft, 0, k)];
    const buffers = {
      targetWarped: targetRows.warped,
      targetDistributions: targetRows.distributions,
      draftWarped: draftRows.warped,
      draftDistributions: draftRows.distributions,
      state: stateBuffer,
    };
    placeRows(targetRows.rowStride, draftRows.rowStride);
    const shape = { slots: sequenceCount, targetVocabSize: vocabSize, draftVocabSize: vocabSize };
    const rows = rowsInSlots([{ slot: 0, position: 0 }]);
    await faults.within('verdict', async () => {
      run(
        { rows: sequenceCount, blocks: 1 },
        await rejectStep(gpu, buffers, shape),
        await residualStep(gpu, { ...buffers, candidates }, shape),
        await argmaxFoldStep(gpu, { rows, candidates, sampled }, { vocabSize }),
        await acceptOf({ targetTokens: empty(1), nextTokens: sampled }),
      );
    });
  }
  const all = await readUints(record);
  return positions.map((_, slot) => parseRecord(all.subarray(slot * RECORD_WORDS, (slot + 1) * RECORD_WORDS)));
}
