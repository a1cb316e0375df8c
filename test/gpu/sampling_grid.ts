/** The distribution of sampled tokens, by round: what the sampling specs check of each cell of a grid. */
import { expect } from 'vitest';
import { accept, acceptRejected } from '../reference/accept.ts';
import { gTest, significance } from '../reference/g_test.ts';
import { createRandom } from '../reference/random.ts';
import { reject, type WarpedRow } from '../reference/reject.ts';
import { residual } from '../reference/residual.ts';
import { referenceDistribution, sample } from '../reference/sample.ts';
import { purposes } from '../reference/threefry.ts';
import { threshold } from '../reference/threshold.ts';
import { noWarping, type SamplingOptions, warp } from '../reference/warp.ts';
import { rounded } from './kernel_bench.ts';
import { type Simulation, seedOf, simulate, startLength, type Table } from './sampling_rounds.ts';

export type Relation = 'near' | 'far' | 'equal';

export type Cell = Pick<SamplingOptions, 'temperature' | 'topK' | 'topP' | 'minP'> & {
  vocabSize: number;
  k: number;
  relation: Relation;
  mode: Simulation['mode'];
  sequenceCount: number;
};

/** k + 1 rows of a target, k of a draft. */
function tablesOf({ vocabSize, k, relation }: Cell): { target: Table; draft: Table } {
  const random = createRandom(vocabSize * 100 + k * 10 + relation.length);
  const target = Array.from({ length: k + 1 }, () => rounded(random.normals(vocabSize, 1.5)));
  const draft = target.slice(0, k).map((row) => {
    if (relation === 'equal') return row;
    return rounded(
      relation === 'far' ? random.normals(vocabSize, 1.5) : row.map((logit) => logit + random.normal() / 2),
    );
  });
  return { target, draft };
}

export function simulationOf(cell: Cell): Simulation {
  const { mode, k, sequenceCount, temperature, topK, topP, minP } = cell;
  return {
    ...tablesOf(cell),
    context: 'position',
    mode,
    k,
    options: { ...noWarping, temperature, topK, topP, minP },
    sequenceCount,
    tokenCount: 1,
    seedHigh: cell.vocabSize + k,
  };
}

function countsOf(outcomes: readonly number[], size: number): number[] {
  const counts = new Array(size).fill(0);
  for (const outcome of outcomes) counts[outcome]++;
  return counts;
}

/** The chance that a draft is accepted. */
function acceptanceOf(target: Float64Array, draft: Float64Array, mode: Simulation['mode']): number {
  if (mode === 'rejection') return target.reduce((sum, p, id) => sum + Math.min(p, draft[id]!), 0);
  // Token i wins both races: Σ 1 / Σ_j max(p_j / p_i, q_j / q_i) (arXiv 2408.07978).
  return target.reduce((sum, p, i) => {
    if (p === 0 || draft[i] === 0) return sum;
    return sum + 1 / target.reduce((odds, other, j) => odds + Math.max(other / p, draft[j]! / draft[i]!), 0);
  }, 0);
}

export type Findings = {
  /** Of each statistic, its p-value. */
  pValues: Record<string, number>;
  /** Of the first sequences, those that committed other tokens than the twin. */
  differing: number;
  acceptedCounts: number[];
};

/** How many sequences are compared with the twin, which takes its time over a large vocabulary. */
const twinCountOf = (vocabSize: number) => (vocabSize > 1024 ? 10 : 200);
/** Choices nearer than this are left to rounding. */
const clearMargin = 1e-4;

/**
 * One round of each sequence: the i-th token of those that committed as many follows the target's row i, and the first
 * draft is accepted as often as theory says.
 */
export async function examine(simulation: Simulation): Promise<Findings> {
  const { target, draft, mode, options, sequenceCount } = simulation;
  const { tokens, acceptedCounts } = await simulate(simulation);
  const pValues: Record<string, number> = {};
  target.forEach((logits, i) => {
    const chosen = tokens.flatMap((committed) => committed.slice(i, i + 1));
    if (chosen.length < 1000 && i > 0) return; // too few came so far to tell
    const counts = countsOf(chosen, logits.length);
    pValues[`token ${i + 1}`] = gTest(counts, referenceDistribution(logits, options)).pValue;
  });
  if (draft.length > 0) {
    const [p, q] = [target, draft].map((table) => referenceDistribution(table[0]!, options));
    const acceptance = Math.min(1, acceptanceOf(p!, q!, mode));
    const accepted = acceptedCounts.filter((count) => count > 0).length;
    pValues.acceptance = gTest([accepted, sequenceCount - accepted], [acceptance, 1 - acceptance]).pValue;
  }
  const twin = twinOf(simulation);
  let differing = 0;
  tokens.slice(0, twinCountOf(target[0]!.length)).forEach((committed, sequence) => {
    const expected = twin(sequence);
    if (expected.margin > clearMargin && committed.join() !== expected.tokens.join()) differing++;
  });
  return { pValues, differing, acceptedCounts };
}

/** A sequence's round in float64, and the smallest margin of its choices. */
function twinOf(simulation: Simulation): (sequence: number) => { tokens: number[]; margin: number } {
  const { mode, k, options } = simulation;
  const rowsOf = (table: Table): WarpedRow[] =>
    table.map((logits) => {
      const warped = warp(logits, [], [], options);
      return { warped, distribution: threshold(warped, options) };
    });
  const [targetRows, draftRows] = [rowsOf(simulation.target), rowsOf(simulation.draft)];
  const limits = { committedLength: startLength, maxLength: 1024, contextLength: 1024, stopTokenIds: [] };
  return (sequence) => {
    const seed = seedOf(simulation, sequence);
    let margin = Infinity;
    const weigh = <T extends { margin: number }>(choice: T): T => {
      margin = Math.min(margin, choice.margin);
      return choice;
    };
    const purpose = mode === 'coupled' ? purposes.shared : purposes.draft;
    const choose = ({ warped, distribution }: WarpedRow, i: number) =>
      weigh(sample(warped, distribution, seed, startLength + i, purpose)).token;
    const drafts = draftRows.slice(0, k).map(choose);
    if (mode === 'coupled') return { tokens: accept(drafts, targetRows.map(choose), limits).tokens, margin };
    const { acceptedCount } = weigh(reject(drafts, targetRows, draftRows, seed, startLength));
    const { token } = weigh(residual(drafts, acceptedCount, targetRows, draftRows, seed, startLength));
    return { tokens: acceptRejected(drafts, acceptedCount, token, limits).tokens, margin };
  };
}

/**
 * A target that looks at the last token only, and a draft near it: the first `tokenCount` tokens together follow the
 * target one token at a time, however rounds cut them.
 */
export async function expectJoint({
  vocabSize,
  tokenCount,
  ...rest
}: Pick<Simulation, 'mode' | 'k' | 'options' | 'tokenCount' | 'sequenceCount'> & { vocabSize: number }): Promise<void> {
  const random = createRandom(vocabSize + rest.k);
  const target = Array.from({ length: vocabSize }, () => rounded(random.normals(vocabSize, 1.5)));
  const draft = target.map((row) => rounded(row.map((logit) => logit + random.normal())));
  const simulation: Simulation = { ...rest, target, draft, tokenCount, context: 'token', seedHigh: 1000 + rest.k };
  const nextOf = target.map((logits) => referenceDistribution(logits, rest.options));
  const expected = new Map<string, number>();
  const extend = (tokens: number[], chance: number): void => {
    if (tokens.length === tokenCount) {
      expected.set(tokens.join(), chance);
      return;
    }
    nextOf[tokens.at(-1) ?? 0]!.forEach((p, token) => {
      if (p > 0) extend([...tokens, token], chance * p);
    });
  };
  extend([], 1);
  const indexOf = new Map([...expected.keys()].map((tokens, index) => [tokens, index]));
  const { tokens, acceptedCounts } = await simulate(simulation);
  // The last outcome is any that cannot be.
  const outcomes = tokens.map((committed) => indexOf.get(committed.slice(0, tokenCount).join()) ?? expected.size);
  const { pValue, degreesOfFreedom } = gTest(countsOf(outcomes, expected.size + 1), [...expected.values(), 0]);
  expect(pValue, 'p of the joint').toBeGreaterThan(significance);
  expect(degreesOfFreedom).toBeGreaterThan(50);
  // Rounds of every length were among them.
  expect([...new Set(acceptedCounts)].sort()).toEqual(Array.from({ length: rest.k + 1 }, (_, count) => count));
}

export async function expectCell(cell: Cell): Promise<void> {
  const { pValues, differing, acceptedCounts } = await examine(simulationOf(cell));
  for (const [name, pValue] of Object.entries(pValues)) expect(pValue, `p of ${name}`).toBeGreaterThan(significance);
  expect(differing, 'sequences that differ from the twin').toBe(0);
  if (cell.relation === 'equal') expect(Math.min(...acceptedCounts)).toBe(cell.k);
}
