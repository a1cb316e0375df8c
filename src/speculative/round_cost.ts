/** What rounds cost, from what passes were measured to cost at two committed lengths. Plain sums. */
import type { CostReport, PassCosts } from '../types.ts';

/** What passes cost at a committed length: on the line through both that were timed. */
export function costsAt(costs: CostReport, length: number): PassCosts {
  const short: PassCosts = costs;
  const long = costs.longContext ?? short;
  // Attention takes whole blocks, and the shorter length is within the first.
  const beyond = Math.max(0, length - short.committedLength);
  const share = long === short ? 0 : beyond / (long.committedLength - short.committedLength);
  // Noise must not make passes cheaper as they grow.
  const at = (shortMs: number, longMs: number): number => shortMs + share * Math.max(0, longMs - shortMs);
  const passMs = (rows: number): number =>
    at((short.v[rows - 1] as number) * short.targetStepMs, (long.v[rows - 1] as number) * long.targetStepMs);
  const targetStepMs = passMs(1);
  const draftStepMs = short.draftStepMs === null ? null : at(short.draftStepMs, long.draftStepMs as number);
  return {
    committedLength: length,
    targetStepMs,
    draftStepMs,
    c: draftStepMs === null ? null : draftStepMs / targetStepMs,
    v: short.v.map((_, i) => passMs(i + 1) / targetStepMs),
  };
}

/**
 * ms of a round in which sequences draft so many each: their rows share weights 8 at a time, what is over as so many rows
 * alone. Attention is of each row, so of their committed lengths it is the mean that counts.
 */
export function roundCostMs(costs: CostReport, draftLengths: readonly number[], length: number): number {
  const { v, targetStepMs, draftStepMs } = costsAt(costs, length);
  const passCost = (rows: number): number =>
    Math.floor(rows / v.length) * (v.at(-1) as number) +
    (rows % v.length > 0 ? (v[(rows % v.length) - 1] as number) : 0);
  let ms = passCost(draftLengths.reduce((sum, k) => sum + k + 1, 0)) * targetStepMs;
  for (let step = 1; step <= Math.max(...draftLengths); step++) {
    ms += passCost(draftLengths.filter((k) => k >= step).length) * (draftStepMs ?? 0);
  }
  return ms;
}
