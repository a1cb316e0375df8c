import { expect, it } from 'vitest';
import { warpStep } from '../../src/kernels/warp.ts';
import { createRandom } from '../reference/random.ts';
import { lowest, noWarping, type SamplingOptions, warp } from '../reference/warp.ts';
import { device, empty, floats, readFloats, rounded, run, words } from './kernel_bench.ts';
import { newSequence, rowsInSlots, stateOf } from './sampling_bench.ts';

/** By slot; the first two leave the adjustments alone, whatever is in them. */
const optionsBySlot: Partial<SamplingOptions>[] = [
  {},
  { temperature: 0.7, minNewTokens: 5, stopTokenIds: [3, 17] },
  { temperature: 0, repetitionPenalty: 1.3 },
  { temperature: 1.5, presencePenalty: 0.4 },
  { temperature: 0.3, frequencyPenalty: -0.25, minNewTokens: 2, stopTokenIds: [5] },
  {
    temperature: 0.9,
    repetitionPenalty: 0.8,
    presencePenalty: -0.5,
    frequencyPenalty: 0.3,
    logitBias: [[7, 9]],
  },
];

it.each([
  [64, 64],
  [256, 256],
  [1500, 1500],
  // A draft model whose vocabulary is padded more, or less, than the target's.
  [100, 64],
  [64, 100],
])('equals its twin over %i logits of %i adjusted tokens: every option, drafts before each row', async (...sizes) => {
  const [vocabSize, adjustedTokens] = sizes;
  const random = createRandom(vocabSize);
  const token = () => random.integer(24); // few, so that they repeat
  const slots = optionsBySlot.map((given) => {
    const promptTokens = Array.from({ length: 3 + random.integer(5) }, token);
    const outputTokens = Array.from({ length: random.integer(5) }, token);
    const drafts = Array.from({ length: 3 }, token);
    const options = { ...noWarping, ...given };
    const { length: promptLength } = promptTokens;
    const sequence = newSequence({ promptLength, length: promptLength + outputTokens.length, drafts, options });
    return { promptTokens, outputTokens, sequence };
  });
  const adjustments = new Uint32Array(slots.length * adjustedTokens * 2);
  const biases = new Float32Array(adjustments.buffer);
  slots.forEach(({ promptTokens, outputTokens, sequence }, slot) => {
    const at = (id: number) => (slot * adjustedTokens + id) * 2;
    for (const id of promptTokens) adjustments[at(id)] = 0x80000000;
    for (const id of outputTokens) adjustments[at(id)]! += 1;
    for (const [id, bias] of sequence.options.logitBias) biases[at(id) + 1] = bias;
  });

  // The verify rows of all slots: the last committed token, then the drafts. The first is no output row.
  const rows = slots.flatMap(({ sequence }, slot) =>
    [0, 1, 2, 3].map((draft) => ({ slot, draft, position: sequence.length - 1 + draft })),
  );
  const first = 1;
  const outputRows = rows.slice(first);
  const logits = outputRows.map(() => rounded(random.normals(vocabSize, 3)));
  for (const row of logits) row.set([Number.NaN, Infinity, -Infinity, 0], 20);
  const firstRow = 2;
  const rowStride = 2;
  const beyond = 2; // workgroups past the last row: nothing to do
  const warped = empty((firstRow + rowStride * (outputRows.length + beyond)) * vocabSize);
  const buffers = {
    rows: rowsInSlots(rows, first),
    state: words(stateOf(slots.map(({ sequence }) => sequence))),
    logits: floats([...logits.flatMap((row) => [...row]), ...new Array(beyond * vocabSize).fill(1)]),
    adjustments: words(adjustments),
    warped,
  };
  run(
    { rows: outputRows.length + beyond, blocks: 1 },
    await warpStep(device(), buffers, { vocabSize, firstRow, rowStride, adjustedTokens }),
  );
  const got = await readFloats(warped);
  const rowOf = (r: number) => got.subarray(r * vocabSize, (r + 1) * vocabSize);
  outputRows.forEach(({ slot, draft }, m) => {
    const { promptTokens, outputTokens, sequence } = slots[slot]!;
    const before = [...outputTokens, ...sequence.drafts.slice(0, draft)];
    const twin = warp(logits[m]!, promptTokens, before, sequence.options);
    const row = rowOf(firstRow + rowStride * m);
    twin.forEach((value, id) => {
      const difference = Math.abs((row[id] as number) - value);
      const isClose = difference <= 3e-6 * (Math.abs(value) + 4) || Object.is(row[id], value);
      if (!isClose) throw new Error(`Row ${m} (slot ${slot}), token ${id}: expected ${value}, got ${row[id]}.`);
    });
    const isTooShort = before.length < sequence.options.minNewTokens;
    for (const id of sequence.options.stopTokenIds) expect(row[id] === Math.fround(lowest)).toBe(isTooShort);
  });
  // Between the rows and behind them nothing was written.
  for (const r of [0, 1, 3, firstRow + rowStride * outputRows.length])
    expect(rowOf(r).every((x) => x === 0)).toBe(true);
});

it('stride 0: one row serves all', async () => {
  const warped = empty(2 * 64);
  const buffers = {
    rows: rowsInSlots([{ slot: 0, position: 8 }]),
    state: words(stateOf([newSequence({ options: { ...noWarping, temperature: 2 } })])),
    logits: floats(new Array(64).fill(3)),
    adjustments: empty(128),
    warped,
  };
  run(
    { rows: 1, blocks: 1 },
    await warpStep(device(), buffers, { vocabSize: 64, firstRow: 1, rowStride: 0, adjustedTokens: 64 }),
  );
  expect(await readFloats(warped)).toEqual(Float32Array.from({ length: 128 }, (_, i) => (i < 64 ? 0 : 1.5)));
});
