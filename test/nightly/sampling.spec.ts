/** The whole grid of test/gpu/sampling.spec.ts, and one cell over a vocabulary of today's models. */
import { describe, it } from 'vitest';
import { type Cell, expectCell, expectJoint } from '../gpu/sampling_grid.ts';
import { noWarping } from '../reference/warp.ts';

const sequenceCount = 20_000;

/** All combinations of one value per list. */
function combinations<T extends Record<string, readonly unknown[]>>(lists: T): { [K in keyof T]: T[K][number] }[] {
  let rows: Record<string, unknown>[] = [{}];
  for (const [name, values] of Object.entries(lists)) {
    rows = rows.flatMap((row) => values.map((value) => ({ ...row, [name]: value })));
  }
  return rows as { [K in keyof T]: T[K][number] }[];
}

const options = { temperature: [0.5, 1, 1.5], topK: [0, 12], topP: [1, 0.8], minP: [0, 0.1] } as const;
const noOptions = { temperature: 1, topK: 0, topP: 1, minP: 0 };

const gridCells = [
  ...combinations({
    mode: ['rejection'],
    relation: ['near', 'far', 'equal'],
    vocabSize: [64, 256],
    ...options,
  } as const),
  ...combinations({ mode: ['coupled'], relation: ['near', 'far'], vocabSize: [64], ...options } as const),
].map((cell, i): Cell => ({ ...cell, k: 1 + ((i * 5 + Math.floor(i / 24)) % 3), sequenceCount })); // k walks along

const lengths = [1, 2, 3, 4, 5, 6, 7] as const;
const lengthCells = [
  ...combinations({
    mode: ['rejection'],
    relation: ['near', 'far', 'equal'],
    vocabSize: [64, 256],
    k: lengths,
  } as const),
  ...combinations({ mode: ['coupled'], relation: ['near'], vocabSize: [64], k: lengths } as const),
].map((cell): Cell => ({ ...cell, ...noOptions, sequenceCount }));

const title = '$mode, draft $relation, V $vocabSize, k $k, T $temperature, top-k $topK, top-p $topP, min-p $minP';
describe('each set of options', () => {
  it.each(gridCells)(title, expectCell);
});
describe('each k', () => {
  it.each(lengthCells)(title, expectCell);
});

it.each(combinations({ mode: ['rejection', 'coupled'], k: [1, 2, 3], vocabSize: [64, 256] } as const))(
  'three tokens together: $mode, V $vocabSize, k $k',
  (cell) =>
    expectJoint({ ...cell, options: { ...noWarping, temperature: 1.2, topK: 6 }, tokenCount: 3, sequenceCount }),
);

// An hour where the GPU is a CPU.
it('over 151,936 logits', { timeout: 3_600_000 }, () =>
  expectCell({ ...noOptions, mode: 'rejection', relation: 'near', vocabSize: 151_936, k: 1, sequenceCount }),
);
