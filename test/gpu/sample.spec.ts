import { expect, it } from 'vitest';
import randomCode from '../../shaders/lib/random.wgsl?raw';
import { createBindGroup, createPipeline, type Kernel } from '../../src/gpu/kernel.ts';
import { chunksOf } from '../../src/kernels/argmax.ts';
import { argmaxFoldStep } from '../../src/kernels/argmax_fold.ts';
import { sampleStep } from '../../src/kernels/sample.ts';
import type { DistributionRows } from '../../src/kernels/warp.ts';
import { argmax, noToken } from '../reference/argmax.ts';
import { createRandom } from '../reference/random.ts';
import { sample } from '../reference/sample.ts';
import { exponential, gumbel, purposes, threefry, uniformOf } from '../reference/threefry.ts';
import { type Distribution, threshold } from '../reference/threshold.ts';
import { noWarping } from '../reference/warp.ts';
import { device, empty, floats, readFloats, readUints, rounded, run, words } from './kernel_bench.ts';
import { newSequence, rowsInSlots, type Sequence, stateOf } from './sampling_bench.ts';

/** Scores are of f32 logarithms: nearer than this rounding may decide. */
const clearMargin = 1e-4;

it('threefry: the known answers, and the integers and floats of 4,096 counters', async () => {
  const kernel: Kernel = {
    name: 'random spec',
    code: `${randomCode}
      @group(0) @binding(0) var<storage, read> inputs: array<vec4<u32>>;
      @group(0) @binding(1) var<storage, read_write> integers: array<vec2<u32>>;
      @group(0) @binding(2) var<storage, read_write> numbers: array<vec4<f32>>;
      @compute @workgroup_size(64)
      fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        let input = inputs[id.x];
        integers[id.x] = threefry(input.xy, input.zw);
        numbers[id.x] = vec4(uniform_of(input.z), exponential(input.z), gumbel(input.z), 0.0);
      }`,
    bindings: [
      { name: 'inputs', kind: 'read' },
      { name: 'integers', kind: 'write' },
      { name: 'numbers', kind: 'write' },
    ],
    overrides: [],
    params: [],
  };
  const random = createRandom(1);
  const all = 2 ** 32 - 1;
  const count = 4096;
  const inputs = Array.from({ length: count }, () => Array.from({ length: 4 }, () => random.integer(2 ** 32)));
  inputs.splice(0, 3, [0, 0, 0, 0], [all, all, all, all], [0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3]);
  // Of the floats, the ends of the range and both sides of where the series takes over.
  const edges = [
    0,
    1,
    2,
    all,
    all - 1,
    all - 600,
    2 ** 31,
    2 ** 26 - 1,
    2 ** 26,
    2 ** 26 + 1,
    2 ** 24,
    2 ** 23,
    511,
    512,
  ];
  edges.forEach((bits, i) => {
    inputs[3 + i] = [1, 2, bits, 3];
  });
  const buffers = { inputs: words(inputs.flat()), integers: empty(count * 2), numbers: empty(count * 4) };
  const pipeline = await createPipeline(device(), kernel, {});
  const bindGroup = createBindGroup(device(), kernel, buffers);
  run({ rows: 1, blocks: 1 }, { label: 'random', bindGroup, pipeline: () => pipeline, grid: () => [count / 64, 1, 1] });

  const integers = await readUints(buffers.integers);
  expect([...integers.subarray(0, 6)]).toEqual([
    0x6b200159, 0x99ba4efe, 0x1cb996fc, 0xbb002be7, 0xc4923a9c, 0x483df7a0,
  ]);
  const numbers = await readFloats(buffers.numbers);
  inputs.forEach((input, i) => {
    const [a, b, bits, d] = input as [number, number, number, number];
    expect([...integers.subarray(i * 2, i * 2 + 2)]).toEqual(threefry([a, b], [bits, d]));
    const [u, e, g] = numbers.subarray(i * 4, i * 4 + 3);
    expect(u).toBe(uniformOf(bits));
    // Devices may round the 32 bits to either f32 beside them, which shows where x nears 1 (and the token surely loses).
    const tolerance = clearMargin / 4 + 2 ** -24 / Math.max(2 ** -33, 1 - bits / 2 ** 32) / exponential(bits);
    expect(Math.abs(e! / exponential(bits) - 1), `exponential(${bits})`).toBeLessThan(tolerance);
    expect(Math.abs(g! - gumbel(bits)), `gumbel(${bits})`).toBeLessThan(tolerance);
  });
});

/** `sampled` of rows that are a slot and a distribution row each, (M,). */
async function sampledOf(
  sequences: readonly Sequence[],
  positions: readonly number[],
  warped: readonly Float64Array[],
  distributions: readonly Distribution[],
  place: Omit<DistributionRows, 'vocabSize'> = { firstRow: 0, rowStride: warped.length === 1 ? 0 : 1 },
): Promise<number[]> {
  const vocabSize = warped[0]!.length;
  const flat = new Float32Array(warped.length * vocabSize);
  warped.forEach((row, r) => {
    flat.set(row, r * vocabSize);
  });
  const rows = rowsInSlots(positions.map((position, slot) => ({ slot, position: position - 1 })));
  const candidates = empty(positions.length * chunksOf(vocabSize) * 2);
  const sampled = empty(positions.length);
  const buffers = {
    rows,
    state: words(stateOf(sequences)),
    warped: floats(flat),
    distributions: floats(distributions.flatMap(({ max, threshold: least, sum }) => [max, least, sum, 0])),
    candidates,
  };
  run(
    { rows: positions.length, blocks: 1 },
    await sampleStep(device(), buffers, { vocabSize, ...place }),
    await argmaxFoldStep(device(), { rows, candidates, sampled }, { vocabSize }),
  );
  return [...(await readUints(sampled)).subarray(0, positions.length)];
}

it.each([
  [64, 3000],
  [256, 1000],
  [1500, 300],
  [151_936, 6],
])(
  'over %i logits, %i rows choose the tokens of the twin: seeds, positions, thresholds',
  async (vocabSize, rowCount) => {
    const random = createRandom(vocabSize);
    const sequences = Array.from({ length: rowCount }, () =>
      newSequence({ seed: [random.integer(2 ** 32), random.integer(2 ** 32)] }),
    );
    const positions = sequences.map(() => 1 + random.integer(131_072));
    for (const mode of ['seeded', 'random'] as const) {
      const purpose = mode === 'seeded' ? purposes.shared : purposes.draft;
      const options = { ...noWarping, topK: mode === 'seeded' ? 0 : 30 };
      const warped = sequences.map(() => rounded(random.normals(vocabSize, 2)));
      const distributions = warped.map((row) => threshold(row, options));
      const inMode = sequences.map((sequence) => ({ ...sequence, mode }));
      const got = await sampledOf(inMode, positions, warped, distributions);
      let unclear = 0;
      got.forEach((token, m) => {
        const draw = sample(warped[m]!, distributions[m]!, sequences[m]!.seed, positions[m]!, purpose);
        if (draw.margin < clearMargin) unclear++;
        else expect(token, `row ${m}`).toBe(draw.token);
      });
      expect(unclear).toBeLessThan(2 + rowCount / 500);
    }
  },
);

it('many positions of one seed choose as the twin does, each its own token', async () => {
  const random = createRandom(9);
  const warped = [rounded(random.normals(64, 1))];
  const distributions = warped.map((row) => threshold(row, noWarping));
  const positions = Array.from({ length: 1000 }, (_, i) => i + 1);
  const sequences = positions.map(() => newSequence({ seed: [5, 6], mode: 'seeded' }));
  const got = await sampledOf(sequences, positions, warped, distributions);
  const twin = positions.map((position) => sample(warped[0]!, distributions[0]!, [5, 6], position, purposes.shared));
  const clear = (_: unknown, i: number) => twin[i]!.margin > clearMargin;
  expect(got.filter(clear)).toEqual(twin.map(({ token }) => token).filter(clear));
  expect(new Set(got).size).toBeGreaterThan(40);
});

it('chooses finite logits from the threshold up, and NO_TOKEN where there are none', async () => {
  const odd = Float64Array.from({ length: 1500 }, (_, id) => [Number.NaN, Infinity, -Infinity, 50, 1, 1][id % 6]!);
  const none = odd.map((logit) => (Number.isFinite(logit) ? Number.NaN : logit));
  const equal = new Float64Array(1500).fill(-2.5);
  const warped = [odd, none, equal, equal];
  const distributions: Distribution[] = warped.map((row) => threshold(row, noWarping));
  distributions[0] = { max: 50, threshold: 50, sum: 250 };
  distributions[3] = { max: -2.5, threshold: -2.4, sum: 0 };
  const sequences = warped.map((_, slot) => newSequence({ seed: [slot, 8] }));
  const got = await sampledOf(sequences, [7, 7, 7, 7], warped, distributions);
  expect(got[0]! % 6).toBe(3);
  expect(got).toEqual(warped.map((row, slot) => sample(row, distributions[slot]!, [slot, 8], 7, purposes.draft).token));
  expect([got[1], got[3]]).toEqual([noToken, noToken]);
});

it('beside those that are sampled, others take the highest logit; drafts have rows of their own', async () => {
  const random = createRandom(11);
  const warped = Array.from({ length: 12 }, () => rounded(random.normals(300, 2)));
  // What is likeliest is seldom drawn where much is nearly as likely.
  for (const row of warped) for (const [id, logit] of row.entries()) row[id] = Math.fround(logit / 100);
  warped[10]![7] = Number.NaN;
  const distributions = warped.map((row) => threshold(row, { ...noWarping, topK: 20 }));
  const modes = ['greedy', 'seeded', 'shaped', 'random'] as const;
  // Draft step 2 of sequences that have three draft rows each.
  const sequences = modes.map((mode, slot) => newSequence({ seed: [slot, 4], mode, firstDraftRow: slot * 3 }));
  const positions = [5, 6, 7, 8];
  const place = { firstRow: 1, rowStride: 0, ofDrafts: true };
  const got = await sampledOf(sequences, positions, warped, distributions, place);
  const expected = modes.map((mode, slot) => {
    const row = warped[slot * 3 + 1]!;
    if (mode === 'greedy' || mode === 'shaped') return argmax(row);
    const purpose = mode === 'seeded' ? purposes.shared : purposes.draft;
    const draw = sample(row, distributions[slot * 3 + 1]!, [slot, 4], positions[slot]!, purpose);
    expect(draw.margin).toBeGreaterThan(clearMargin);
    expect(draw.token).not.toBe(argmax(row));
    return draw.token;
  });
  expect(got).toEqual(expected);
});
