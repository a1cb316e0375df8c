import { expect, it } from 'vitest';
import { thresholdStep } from '../../src/kernels/threshold.ts';
import { createRandom } from '../reference/random.ts';
import { threshold } from '../reference/threshold.ts';
import { lowest, noWarping, type SamplingOptions } from '../reference/warp.ts';
import { device, empty, floats, readFloats, rounded, run, words } from './kernel_bench.ts';
import { newSequence, rowsInSlots, stateOf } from './sampling_bench.ts';

type Case = { warped: Float64Array; options: Partial<SamplingOptions> };
type Got = { max: number; threshold: number; sum: number; spare: number };

/** Distributions of one vocabulary, a slot each. */
async function thresholdsOf(cases: readonly Case[]): Promise<Got[]> {
  const vocabSize = cases[0]!.warped.length;
  const distributions = empty(cases.length * 4);
  const warped = new Float32Array(cases.length * vocabSize);
  cases.forEach((one, row) => {
    warped.set(one.warped, row * vocabSize);
  });
  const buffers = {
    rows: rowsInSlots(cases.map((_, slot) => ({ slot, position: 8 }))),
    state: words(stateOf(cases.map(({ options }) => newSequence({ options: { ...noWarping, ...options } })))),
    warped: floats(warped),
    distributions,
  };
  const step = await thresholdStep(device(), buffers, { vocabSize, firstRow: 0, rowStride: 1 });
  run({ rows: cases.length, blocks: 1 }, step);
  const got = await readFloats(distributions);
  return cases.map((_, row) => {
    const [max, threshold, sum, spare] = got.subarray(row * 4, row * 4 + 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    return { max, threshold, sum, spare };
  });
}

/** Masses of top-p may differ by 1e-6 of the total: where a boundary lies within that, either side of it may be right. */
function expectTwin({ warped, options: given }: Case, got: Got): void {
  const options = { ...noWarping, ...given };
  const twinWith = (slack: number) => {
    const topP = options.topP < 1 ? Math.min(1 - 1e-9, Math.max(1e-9, options.topP + slack)) : 1;
    return threshold(warped, { ...options, topP });
  };
  const keptFrom = (least: number) => warped.filter((logit) => Number.isFinite(logit) && logit >= least);
  const [most, fewest] = [twinWith(1e-6), twinWith(-1e-6)].map((twin) => keptFrom(twin.threshold).length);
  const kept = keptFrom(got.threshold);
  const what = `${warped.length} logits, ${JSON.stringify(given)}, kept`;
  expect(kept.length, what).toBeGreaterThanOrEqual(fewest!);
  expect(kept.length, what).toBeLessThanOrEqual(most!);
  const { max } = twinWith(0);
  expect(got.max === Math.fround(max), `${what}: max ${got.max}, not ${max}`).toBe(true);
  const sum = kept.reduce((total, logit) => total + Math.exp(logit - max), 0);
  expect(Math.abs(got.sum - sum), `${what}: sum ${got.sum}, not ${sum}`).toBeLessThanOrEqual(5e-6 * sum);
  expect(got.spare).toBe(0);
}

const grid = [0, 1, 5, 63].flatMap((topK) =>
  [1, 0.95, 0.5, 1e-6].flatMap((topP) => [0, 0.05, 1].map((minP) => ({ topK, topP, minP }))),
);

it.each([64, 256, 1500])('equals its twin over %i random logits, for 48 sets of options', async (vocabSize) => {
  const random = createRandom(vocabSize);
  const cases = grid.map((options, i) => ({
    warped: rounded(random.normals(vocabSize, [0.1, 1, 5, 30][i % 4])),
    options,
  }));
  const got = await thresholdsOf(cases);
  cases.forEach((one, i) => {
    expectTwin(one, got[i]!);
  });
});

it('equals its twin over 151,936 logits', async () => {
  const random = createRandom(3);
  const cases = [
    {},
    { topK: 40 },
    { topK: 100_000 },
    { topP: 0.9 },
    { topP: 0.999 },
    { minP: 0.01 },
    { topK: 1000, topP: 0.8, minP: 0.001 },
  ].flatMap((options) => [0.5, 3].map((scale) => ({ warped: rounded(random.normals(151_936, scale)), options })));
  const got = await thresholdsOf(cases);
  cases.forEach((one, i) => {
    expectTwin(one, got[i]!);
  });
});

it('edges: ties, equal logits, few or no finite ones, zeros of both signs, k at and beyond the vocabulary', async () => {
  const random = createRandom(4);
  const vocabSize = 256;
  const rowOf = (fill: (id: number) => number) => Float64Array.from({ length: vocabSize }, (_, id) => fill(id));
  const tied = rowOf((id) => Math.floor(id / 20)); // 12 is tied 16 times, below that 20 times
  const onlyOne = rowOf((id) => (id === 99 ? -5 : [Number.NaN, Infinity, -Infinity][id % 3]!));
  const someOdd = rounded(random.normals(vocabSize)).map((logit, id) => (id % 7 === 0 ? Number.NaN : logit));
  someOdd.set([Infinity, -Infinity, lowest, Math.fround(3e38), -0, 0], 30);
  const rows = {
    tied,
    equal: rowOf(() => 1.25),
    zeros: rowOf((id) => (id % 2 === 0 ? 0 : -0)),
    negative: rowOf((id) => -1000 - id),
    onlyOne,
    someOdd,
    banned: rowOf((id) => (id < 3 ? lowest : id === 7 ? 2 : 1)),
    none: rowOf(() => Number.NaN),
  };
  const optionSets = [
    {},
    ...[1, 16, 17, 30, 255, 256, 257, 2 ** 32 - 1].map((topK) => ({ topK })),
    ...[1e-6, 0.5, 0.999].map((topP) => ({ topP })),
    ...[1, 0.5].map((minP) => ({ minP })),
    { topK: 17, topP: 0.9, minP: 0.1 },
  ];
  for (const warped of Object.values(rows)) {
    const cases = optionSets.map((options) => ({ warped: rounded(warped), options }));
    const got = await thresholdsOf(cases);
    cases.forEach((one, i) => {
      expectTwin(one, got[i]!);
    });
  }
  const [none] = await thresholdsOf([{ warped: rows.none, options: { topK: 5, topP: 0.5, minP: 0.5 } }]);
  expect(none).toEqual({ max: Math.fround(lowest), threshold: Math.fround(lowest), sum: 0, spare: 0 });
});

it('reads and writes its distribution rows only, and skips rows that the pass has not', async () => {
  const random = createRandom(5);
  const warpedRows = Array.from({ length: 6 }, () => rounded(random.normals(64)));
  const distributions = empty(6 * 4);
  const buffers = {
    rows: rowsInSlots(
      [0, 0, 0].map((slot) => ({ slot, position: 8 })),
      1,
    ),
    state: words(stateOf([newSequence({ options: { ...noWarping, topK: 9 } })])),
    warped: floats(warpedRows.flatMap((row) => [...row])),
    distributions,
  };
  run({ rows: 3, blocks: 1 }, await thresholdStep(device(), buffers, { vocabSize: 64, firstRow: 1, rowStride: 2 }));
  const got = await readFloats(distributions);
  for (const row of [0, 2, 4, 5]) expect([...got.subarray(row * 4, row * 4 + 4)]).toEqual([0, 0, 0, 0]);
  for (const row of [1, 3]) {
    const [max, least, sum, spare] = got.subarray(row * 4, row * 4 + 4) as unknown as [number, number, number, number];
    expectTwin({ warped: warpedRows[row]!, options: { topK: 9 } }, { max, threshold: least, sum, spare });
  }
});
