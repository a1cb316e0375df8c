/**
 * `draftLength: 'auto'`: chooses k, round by round, from what passes cost on this device and from the acceptance so far.
 * The cost model is that of Leviathan et al. 2023 with a measured v(M): S = E / (k·c + v(k+1)). Plain functions over
 * counts; the records that are read anyway are all it sees.
 */
import type { CostReport } from '../types.ts';
import { roundCostMs } from './round_cost.ts';

/** What an answered round tells. */
export type RoundOutcome = {
  /** Drafts asked for: the k of the round. A lookup may find fewer. */
  draftLength: number;
  draftCount: number;
  acceptedCount: number;
  /** Committed tokens of the sequence when it began. */
  length: number;
  /** Time that the round took of the device; null where something else ran beside it. */
  roundMs: number | null;
};

export type DraftLengthPolicy = {
  /** k of the next round to submit, for each of the sequences that share it; `length`: the mean of their committed ones. */
  next(length: number, sequenceCount?: number): number;
  observe(outcome: RoundOutcome): void;
  /** Another sequence begins: what was learnt weighs less, and is where it starts. */
  startSequence(): void;
  /**
   * S of the cost model over rounds of which [k] had k drafts, at a mean committed length of `length`, as now believed.
   * Null for a lookup, whose drafts are not independent of whether it found any; and for no rounds.
   */
  expectedSpeedup(rounds: readonly number[], length: number): number | null;
  /** Time of a plain round at a committed length, in ms, as now believed. */
  plainRoundMs(length: number): number;
};

/** Weight of each older round against the one after it: some 100 rounds count. */
const memory = 0.99;
/** What an acceptance is believed to be before anything was seen, and how many judged drafts that belief is worth. */
const priorAcceptance = 0.7;
const priorWeight = 4;
/** A longer or shorter k must promise this much more than the current one. */
const hysteresis = 1.02;
/** While plain decoding is best: rounds until the first probe, doubled after each probe in vain, to the last figure. */
const firstProbeAfter = 16;
const lastProbeAfter = 1024;
/** Rounds of one probe: with fewer, one rejected draft decides. */
const probeRounds = 4;
/** What was judged before a probe weighs as so many drafts of each position at most: a probe must be able to refute it. */
const weightBeforeProbe = 3;
/**
 * How fast times move the cost table. A k that takes longer than was measured looks dear first (`ownWeight`), so that
 * another is tried; if that one takes longer too, the whole device is slower (`allWeight`). What is not seen is
 * forgotten: a k that once looked dear gets another chance.
 */
const ownWeight = 0.02;
const allWeight = 0.002;
/** The first rounds of a k weigh more: what was measured at load is worth so many. */
const measuredWeight = 8;
const forgetWeight = 0.002;
/** How far one k's time may move against the others'. */
const farthestRatio = 1.5;

/** `costs` as measured at load. A lookup drafts at no cost, and where it finds nothing the round is a plain one. */
export function createDraftLengthPolicy(costs: CostReport, drafter: 'model' | 'ngram'): DraftLengthPolicy {
  const allDraftLengths = costs.v.map((_, k) => k);
  /** Of all rounds, observed time / measured; and of each k, how far its own is from that. */
  let scale = 1;
  const ratios = allDraftLengths.map(() => 1);
  /** [k] = rounds of it that were timed. */
  const seen = allDraftLengths.map(() => 0);
  /** [i] = drafts at position i that the target judged, and agreed with. */
  const judged = allDraftLengths.slice(1).map(() => 0);
  const agreed = allDraftLengths.slice(1).map(() => 0);
  let lookups = 0;
  let lookupsFound = 0;
  let current = 0;
  let probeAfter = firstProbeAfter;
  let plainRounds = 0;
  let probing = 0;

  /** [i] = acceptance of drafts at position i, where all before it were accepted. */
  const beliefs = (): number[] => {
    let belief = priorAcceptance;
    // What was not seen yet is believed to be as the position before it.
    return judged.map((count, i) => {
      belief = ((agreed[i] as number) + priorWeight * belief) / (count + priorWeight);
      // `weighLess` may have put a negative count against a prior that has moved since.
      belief = Math.min(1, Math.max(0, belief));
      return belief;
    });
  };
  /** [k] = expected tokens of a round of k drafts: each position needs all before it. */
  const expectedTokens = (): number[] => {
    const tokens = [1];
    let reached = 1;
    for (const [i, belief] of beliefs().entries()) {
      reached *= belief;
      tokens.push((tokens[i] as number) + reached);
    }
    return tokens;
  };
  /** Believes the same on the grounds of less: for a probe after long plain decoding. */
  const weighLess = (): void => {
    const believed = beliefs();
    for (const [i, belief] of believed.entries()) {
      const before = believed[i - 1] ?? priorAcceptance;
      const count = Math.min(judged[i] as number, weightBeforeProbe);
      judged[i] = count;
      agreed[i] = belief * (count + priorWeight) - before * priorWeight;
    }
  };
  /** [k] = ms of a round in which so many sequences draft k each. */
  const roundCosts = (length: number, sequenceCount = 1): number[] => {
    const measured = allDraftLengths.map((k) => roundCostMs(costs, new Array(sequenceCount).fill(k), length));
    const foundShare = drafter === 'model' ? 1 : (lookupsFound + 1) / (lookups + 2);
    const plain = measured[0] as number;
    return measured.map((ms, k) => (plain + foundShare * (ms - plain)) * (ratios[k] as number));
  };
  const speedups = (length: number, sequenceCount: number): number[] => {
    const roundCost = roundCosts(length, sequenceCount);
    const plain = roundCost[0] as number;
    return expectedTokens().map((tokens, k) => (tokens * plain) / (roundCost[k] as number));
  };
  const bestOf = (values: readonly number[], from: number): number => {
    let best = from;
    for (let k = from; k < values.length; k++) if ((values[k] as number) > (values[best] as number)) best = k;
    return best;
  };
  /** Whether even drafts that are always right could pay here. */
  const mayPay = (length: number, sequenceCount: number): boolean =>
    roundCosts(length, sequenceCount).some((ms, k, all) => k > 0 && (k + 1) * (all[0] as number) > ms);

  return {
    next(length, sequenceCount = 1) {
      if (probing > 0) {
        probing -= 1;
        return current;
      }
      const values = speedups(length, sequenceCount);
      const best = bestOf(values, 0);
      if ((values[best] as number) > (values[current] as number) * hysteresis) current = best;
      // A probe's k is current while it runs, and must earn its place afterwards.
      if ((values[current] as number) < 1) current = 0;
      if (current > 0) {
        plainRounds = 0;
        probeAfter = firstProbeAfter;
        return current;
      }
      plainRounds += 1;
      if (plainRounds <= probeAfter || !mayPay(length, sequenceCount)) return 0;
      plainRounds = 0;
      weighLess();
      probeAfter = Math.min(lastProbeAfter, probeAfter * 2);
      probing = probeRounds - 1;
      current = bestOf(values, 1);
      return current;
    },

    observe({ draftLength, draftCount, acceptedCount, length, roundMs }) {
      if (draftLength > 0) {
        // A draft that a lookup did not find is one that the target could not agree with.
        const last = Math.min(acceptedCount, draftLength - 1);
        for (const [i] of judged.entries()) {
          judged[i] = (judged[i] as number) * memory + (i <= last ? 1 : 0);
          agreed[i] = (agreed[i] as number) * memory + (i < acceptedCount ? 1 : 0);
        }
        lookups = lookups * memory + 1;
        lookupsFound = lookupsFound * memory + (draftCount > 0 ? 1 : 0);
      }
      if (roundMs === null) return;
      // A device may take as long for the rows that a lookup left empty: that is a cost of asking for so many.
      const k = draftLength;
      const ratio = Math.min(4, roundMs / roundCostMs(costs, [draftCount], length));
      scale += allWeight * (ratio - scale);
      seen[k] = (seen[k] as number) + 1;
      const weight = Math.max(ownWeight, 1 / (measuredWeight + (seen[k] as number)));
      for (const [other, own] of ratios.entries()) {
        const moved = own + (other === k ? weight * (ratio / scale - own) : forgetWeight * (1 - own));
        ratios[other] = Math.min(farthestRatio, Math.max(1 / farthestRatio, moved));
      }
    },

    startSequence() {
      for (const [i] of judged.entries()) {
        judged[i] = (judged[i] as number) / 2;
        agreed[i] = (agreed[i] as number) / 2;
      }
      probing = 0;
    },

    expectedSpeedup(rounds, length) {
      if (drafter === 'ngram' || rounds.length === 0) return null;
      const tokens = expectedTokens();
      const roundCost = roundCosts(length);
      const sumOf = (values: readonly number[]) => rounds.reduce((sum, n, k) => sum + n * (values[k] as number), 0);
      return (sumOf(tokens) * (roundCost[0] as number)) / sumOf(roundCost);
    },
    plainRoundMs: (length) => roundCostMs(costs, [0], length) * (ratios[0] as number) * scale,
  };
}
