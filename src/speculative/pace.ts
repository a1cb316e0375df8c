/** Into how many submits work is cut on a slow device, so that a page that shares the GPU still draws its frames. */
import { maxRows } from '../kernels/matmul_rows.ts';
import type { CostReport } from '../types.ts';
import { roundCostMs } from './round_cost.ts';

export type Pace = {
  /** Submits of a round in which sequences draft so many each, at a mean committed length of `length`. */
  roundSubmits(draftLengths: readonly number[], length: number): number;
  /** Submits of a chunk of a prompt of so many rows. */
  chunkSubmits(model: 'target' | 'draft', rows: number): number;
  /** A chunk of the target's took so long. */
  observeChunk(rows: number, ms: number): void;
};

/** What one submit may take: a frame in two is late then, where all work of the GPU goes through one queue. */
const longestSubmitMs = 30;
/** A row of a chunk against a decode step, until chunks were seen: GPUs that read weights for the one compute for the other. */
const firstRowCost = 0.25;
const chunkWeight = 0.5;

/** `costs`: of passes, as measured at load; null: nothing is cut. */
export function createPace(costs: CostReport | null): Pace {
  const submitsOf = (ms: number) => Math.max(1, Math.ceil(ms / longestSubmitMs));
  let rowMs = firstRowCost * (costs?.targetStepMs ?? 0);
  return {
    roundSubmits: (draftLengths, length) => (costs === null ? 1 : submitsOf(roundCostMs(costs, draftLengths, length))),
    chunkSubmits: (model, rows) => submitsOf(rows * rowMs * (model === 'draft' ? (costs?.c ?? 0) : 1)),
    observeChunk(rows, ms) {
      // A chunk of few rows goes the way of rounds.
      if (costs !== null && rows > maxRows) rowMs += chunkWeight * (ms / rows - rowMs);
    },
  };
}
