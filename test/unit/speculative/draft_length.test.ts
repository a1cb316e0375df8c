/** The choice of k against simulated devices and texts: how close it comes to the best k that is fixed in hindsight. */
import { describe, expect, it } from 'vitest';
import {
  createDraftLengthPolicy,
  type DraftLengthPolicy,
  type RoundOutcome,
} from '../../../src/speculative/draft_length.ts';
import type { CostReport, PassCosts } from '../../../src/types.ts';
import { createRandom } from '../../reference/random.ts';

type Figures = { c: number; v: number[] };
/** Target steps take 10 ms at 48 committed tokens; `long`: `step` times as long at 1,024. */
type Device = Figures & { long?: Figures & { step: number } };
const devices = {
  gpu: { c: 0.1, v: [1, 1.03, 1.1, 1.25, 1.4, 1.6, 1.8, 2.1] },
  'big draft': { c: 0.35, v: [1, 1.1, 1.2, 1.35, 1.55, 1.8, 2.1, 2.5] },
  software: { c: 0.31, v: [1, 1.42, 1.95, 2.53, 3.2, 3.9, 4.5, 5.15] },
  'linear verify': { c: 0.2, v: [1, 2, 3, 4, 5, 6, 7, 8] },
  // Attention adds 8 ms for every row: drafts get dear.
  'dear rows': {
    c: 0.1,
    v: [1, 1.03, 1.1, 1.25, 1.4, 1.6, 1.8, 2.1],
    long: { step: 1.8, c: 0.1, v: [1, 1.46, 1.94, 2.47, 3, 3.56, 4.11, 4.72] },
  },
  // Rows share their loads, and the draft has few layers: drafts get cheap.
  'shared loads': {
    c: 0.6,
    v: [1, 1.3, 1.55, 1.8, 2.1, 2.5, 2.9, 3.4],
    long: { step: 2.5, c: 0.26, v: [1, 1.13, 1.24, 1.35, 1.48, 1.65, 1.82, 2.04] },
  },
} satisfies Record<string, Device>;

const costsOf = (committedLength: number, targetStepMs: number, { c, v }: Figures): PassCosts => ({
  committedLength,
  targetStepMs,
  draftStepMs: c * targetStepMs,
  c,
  v,
});
const reportOf = (device: Device): CostReport => ({
  ...costsOf(48, 10, device),
  vSpread: device.v.map(() => 0),
  sampleCount: 1,
  longContext: device.long === undefined ? null : costsOf(1024, 10 * device.long.step, device.long),
});

/** What a round of k drafts takes the device. */
function roundMsOf({ c, v, long }: Device, k: number, length: number): number {
  const shortMs = 10 * (k * c + (v[k] as number));
  if (long === undefined) return shortMs;
  const longMs = 10 * long.step * (k * long.c + (long.v[k] as number));
  return shortMs + ((length - 48) / (1024 - 48)) * (longMs - shortMs);
}

type Chooser = Pick<DraftLengthPolicy, 'next' | 'observe'>;
type Text = { alphaAt: (token: number) => number; tokenCount: number };
const steady = (alpha: number): Text => ({ alphaAt: () => alpha, tokenCount: 3000 });
const changing: Text = { alphaAt: (token) => (token % 1500 < 750 ? 0.9 : 0.15), tokenCount: 6000 };

/**
 * Milliseconds for a text, k chosen by `next` and told to `observe` two rounds late, as the engine does. A draft that
 * was not run for a while first catches up. `slower`: what rounds really take, against what was measured at load. The
 * prompt has 48 tokens.
 */
function simulate(
  device: Device,
  { alphaAt, tokenCount }: Text,
  policy: Chooser,
  { seed = 1, slower = (_k: number): number => 1 } = {},
): number {
  const random = createRandom(seed);
  const pending: RoundOutcome[] = [];
  let total = 0;
  let gap = 0;
  for (let token = 0; token < tokenCount; ) {
    const length = 48 + token;
    const draftLength = policy.next(length);
    let acceptedCount = 0;
    while (acceptedCount < draftLength && random.uniform() < alphaAt(token + acceptedCount)) acceptedCount += 1;
    const ms = roundMsOf(device, draftLength, length) * slower(draftLength);
    const catchUpMs = draftLength === 0 ? 0 : Math.min(gap, 64) * 10 * device.c * 0.3;
    gap = draftLength === 0 ? gap + 1 : 0;
    total += ms + catchUpMs;
    token += acceptedCount + 1;
    const jitter = 0.7 + 0.6 * random.uniform();
    const roundMs = catchUpMs > 0 ? null : ms * jitter;
    pending.push({ draftLength, draftCount: draftLength, acceptedCount, length, roundMs });
    if (pending.length > 2) policy.observe(pending.shift() as RoundOutcome);
  }
  return total;
}

/** As `simulate`, with drafts that a lookup finds now and then, all or none; `emptyRows`: what of their cost the others have. */
function simulateLookup(device: Device, policy: Chooser, { seed = 1, found = 0.4, emptyRows = 0 } = {}): number {
  const random = createRandom(seed);
  const pending: RoundOutcome[] = [];
  let total = 0;
  for (let token = 0; token < 3000; ) {
    const length = 48 + token;
    const draftLength = policy.next(length);
    const draftCount = random.uniform() < found ? draftLength : 0;
    let acceptedCount = 0;
    while (acceptedCount < draftCount && random.uniform() < 0.85) acceptedCount += 1;
    const [asked, used] = [draftLength, draftCount].map((k) => device.v[k] as number) as [number, number];
    const ms = 10 * Math.max(used, 1 + emptyRows * (asked - 1));
    total += ms;
    token += acceptedCount + 1;
    const roundMs = ms * (0.7 + 0.6 * random.uniform());
    pending.push({ draftLength, draftCount, acceptedCount, length, roundMs });
    if (pending.length > 2) policy.observe(pending.shift() as RoundOutcome);
  }
  return total;
}

const fixed = (k: number) => ({ next: () => k, observe() {} });

/** Time of the best of some choosers / the policy's time, over several runs. By default of the k that are fixed. */
function efficiency(
  device: Device,
  text: Text,
  options: Parameters<typeof simulate>[3] = {},
  choosers: readonly Chooser[] = device.v.map((_, k) => fixed(k)),
): number {
  const seeds = [1, 2, 3, 4, 5, 6];
  const meanOf = (make: () => Chooser) =>
    seeds.reduce((sum, seed) => sum + simulate(device, text, make(), { ...options, seed }), 0);
  const best = Math.min(...choosers.map((chooser) => meanOf(() => chooser)));
  return best / meanOf(() => createDraftLengthPolicy(reportOf(device), 'model'));
}

/** Knows α and the device, and takes the best k at every length. */
const allKnowing = (device: Device, alpha: number): Chooser => ({
  next(length) {
    const speeds = device.v.map((_, k) => {
      let tokens = 0;
      for (let i = 0; i <= k; i++) tokens += alpha ** i;
      return tokens / roundMsOf(device, k, length);
    });
    return speeds.indexOf(Math.max(...speeds));
  },
  observe() {},
});

describe.each(Object.entries(devices))('on %s', (_, device) => {
  it.each([0.02, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98])('comes within 3 % of the best k where α is %f', (alpha) => {
    expect(efficiency(device, steady(alpha))).toBeGreaterThan(0.97);
  });

  it('comes within 3 % of the best fixed k where α changes in mid-text', () => {
    expect(efficiency(device, changing)).toBeGreaterThan(0.97);
  });
});

describe('where rounds take other times than were measured at load', () => {
  it('all alike: nothing changes', () => {
    expect(efficiency(devices.gpu, steady(0.7), { slower: () => 2.5 })).toBeGreaterThan(0.97);
  });

  it('each k its own: learns what they take', () => {
    const slower = (k: number) => (k === 0 ? 1 : 1.4);
    expect(efficiency(devices['big draft'], steady(0.7), { slower })).toBeGreaterThan(0.88);
    expect(efficiency(devices.gpu, steady(0.7), { slower: (k) => (k < 3 ? 1 : 1.4) })).toBeGreaterThan(0.88);
  });

  it('long drafts dearer, as with a long context: learns it within one text', () => {
    const text = { ...steady(0.9), tokenCount: 1000 };
    expect(efficiency(devices.gpu, text, { slower: (k) => (k < 3 ? 1 : 1.4) })).toBeGreaterThan(0.95);
    expect(efficiency(devices.gpu, text, { slower: (k) => 1 + 0.07 * k })).toBeGreaterThan(0.95);
  });
});

describe.each([200, 400, 800])('where drafts become good after %i tokens of a text', (tokens) => {
  const text: Text = { alphaAt: (token) => (token < tokens ? 0.3 : 0.9), tokenCount: 2 * tokens };

  it.each(['gpu', 'big draft'] as const)('on %s, comes within 3 % of the best fixed k', (name) => {
    expect(efficiency(devices[name], text)).toBeGreaterThan(0.97);
  });
});

describe.each(['dear rows', 'shared loads'] as const)('where a long context changes the best k: %s', (name) => {
  const device: Device = devices[name];
  const text: Text = { ...steady(0.8), tokenCount: 2500 };

  it('changes it', () => {
    const { next } = allKnowing(device, 0.8);
    expect(Math.abs(next(48) - next(2000))).toBeGreaterThan(1);
  });

  it.each([0.4, 0.6, 0.8, 0.9])('comes within 3 % of who knows the best k at every length, where α is %f', (alpha) => {
    expect(efficiency(device, { ...text, alphaAt: () => alpha }, {}, [allKnowing(device, alpha)])).toBeGreaterThan(
      0.97,
    );
  });

  it('does not take a long context for a slow device', () => {
    const policy = createDraftLengthPolicy(reportOf(device), 'model');
    simulate(device, text, policy);
    const speedupAt = (length: number) => policy.expectedSpeedup([0, 0, 0, 1], length) as number;
    const costAt = (length: number) => roundMsOf(device, 3, length) / roundMsOf(device, 0, length);
    for (const length of [48, 1000, 2000]) {
      expect(Math.abs(policy.plainRoundMs(length) / roundMsOf(device, 0, length) - 1)).toBeLessThan(0.1);
      // The same acceptance at each: what is left are costs.
      expect((speedupAt(length) * costAt(length)) / (speedupAt(48) * costAt(48))).toBeCloseTo(1, 6);
    }
  });

  it('drafts as the lengths of those that share a round ask for', () => {
    const policy = createDraftLengthPolicy(reportOf(device), 'model');
    const ks = [48, 2000].map((length) => createDraftLengthPolicy(reportOf(device), 'model').next(length, 2));
    expect(policy.next(2000, 2)).toBe(ks[1]);
    expect(ks[0]).not.toBe(ks[1]);
  });
});

describe('with a lookup that finds drafts now and then', () => {
  it.each([
    ['gpu', 0],
    ['gpu', 1],
    ['software', 0],
    ['software', 1], // rows that are not there cost as much: it had better not ask
  ] as const)('on %s, where empty rows cost %i of full ones', (name, emptyRows) => {
    const device = devices[name];
    const policyOf = () => createDraftLengthPolicy({ ...reportOf(device), draftStepMs: null, c: null }, 'ngram');
    for (const found of [0.2, 0.4, 0.7]) {
      const meanOf = (make: () => Chooser) =>
        [1, 2, 3].reduce((sum, seed) => sum + simulateLookup(device, make(), { seed, found, emptyRows }), 0);
      const best = Math.min(...device.v.map((_, k) => meanOf(() => fixed(k))));
      expect({ found, efficiency: best / meanOf(policyOf) }).toSatisfy(({ efficiency }) => efficiency > 0.95);
    }
  });
});

describe('for several sequences at once', () => {
  it('drafts less: rows beyond 8 are paid for', () => {
    for (const device of Object.values(devices)) {
      const policyOf = () => createDraftLengthPolicy(reportOf(device), 'model');
      const longest = [1, 2, 4, 8].map((count) => policyOf().next(48, count));
      for (const [i, k] of longest.slice(1).entries()) expect(k).toBeLessThanOrEqual(longest[i] as number);
    }
    // On a GPU one sequence drafts, and so do two; eight fill the rows of a pass by themselves.
    const onGpu = [1, 2, 8].map((count) => createDraftLengthPolicy(reportOf(devices.gpu), 'model').next(48, count));
    expect(onGpu[0]).toBeGreaterThan(0);
    expect(onGpu[2]).toBe(0);
  });
});
