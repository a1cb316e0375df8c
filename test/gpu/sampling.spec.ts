/** What is sampled follows the target's distribution, whatever the draft: a few cells of the grid in test/nightly. */
import { it } from 'vitest';
import { noWarping } from '../reference/warp.ts';
import { type Cell, expectCell, expectJoint } from './sampling_grid.ts';

const sequenceCount = 20_000;
const off = { topK: 0, topP: 1, minP: 0 };

const cells: Omit<Cell, 'sequenceCount'>[] = [
  { mode: 'rejection', vocabSize: 64, relation: 'far', k: 2, temperature: 1.5, topK: 30, topP: 0.9, minP: 0 },
  { mode: 'rejection', vocabSize: 64, relation: 'equal', k: 2, temperature: 1, topK: 0, topP: 1, minP: 0.05 },
  { mode: 'rejection', vocabSize: 256, relation: 'near', k: 3, temperature: 1, topK: 40, topP: 0.95, minP: 0.01 },
  { ...off, mode: 'coupled', vocabSize: 64, relation: 'near', k: 1, temperature: 1 },
  { mode: 'coupled', vocabSize: 256, relation: 'far', k: 1, temperature: 0.8, topK: 0, topP: 0.9, minP: 0 },
];

it.each(cells)(
  '$mode, draft $relation, V $vocabSize, k $k, T $temperature, top-k $topK, top-p $topP, min-p $minP',
  (cell) => expectCell({ ...cell, sequenceCount }),
);

it.each([64])('two tokens together, the draft deciding what follows: V %i, k 2', (vocabSize) =>
  expectJoint({
    mode: 'rejection',
    vocabSize,
    k: 2,
    options: { ...noWarping, temperature: 0.8, topK: 12 },
    tokenCount: 2,
    sequenceCount,
  }),
);

// Fewer seeds than elsewhere, for time: the nightly run has 20,000.
it('over 151,936 logits', () =>
  expectCell({
    mode: 'rejection',
    vocabSize: 151_936,
    relation: 'near',
    k: 1,
    temperature: 1,
    topK: 40,
    topP: 1,
    minP: 0,
    sequenceCount: 150,
  }));
