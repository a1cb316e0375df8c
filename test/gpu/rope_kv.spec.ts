import { expect, it } from 'vitest';
import { ropeKvStep } from '../../src/kernels/rope_kv.ts';
import { type RopeConfig, rotationTable } from '../../src/model/rope.ts';
import { decodeFloat16, roundToCache } from '../reference/float_formats.ts';
import { createRandom } from '../reference/random.ts';
import { plainRope, type QkNorm, ropeKv } from '../reference/rope_kv.ts';
import {
  device,
  empty,
  expectClose,
  floats,
  readFloats,
  readUints,
  rounded,
  rowsOf,
  run,
  words,
} from './kernel_bench.ts';

const heads = { headCount: 3, kvHeadCount: 2, headDim: 20 };
const { headCount, kvHeadCount, headDim } = heads;
const width = (headCount + 2 * kvHeadCount) * headDim;
const llama3: RopeConfig['scaling'] = {
  type: 'llama3',
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalContextLength: 64,
};
const longrope: RopeConfig['scaling'] = {
  type: 'longrope',
  factors: Array.from({ length: 7 }, (_, i) => 1 + i / 3),
  attentionFactor: 1.19,
};

it.each([
  ['plain', plainRope(headDim, 10_000), 'none'],
  ['llama3', { ...plainRope(headDim, 500), scaling: llama3 }, 'none'],
  ['partial longrope', { theta: 10_000, rotaryDim: 14, scaling: longrope }, 'none'],
  ['linear, a norm per head', { ...plainRope(headDim, 10_000), scaling: { type: 'linear', factor: 4 } }, 'head'],
  ['partial, a norm over all heads', { theta: 100, rotaryDim: 8, scaling: { type: 'none' } }, 'full'],
] as [string, RopeConfig, QkNorm['kind'] | 'none'][])(
  '%s: keys transposed, values as they are, in the page of their position',
  async (_, rope, kind) => {
    const positions = [70, 130];
    const random = createRandom(1);
    const qkv = rounded(random.normals(2 * width));
    qkv.set([70_000, -1e30], width - headDim); // values that f16 cannot hold
    const norms = { head: [headDim, headDim], full: [headCount * headDim, kvHeadCount * headDim], none: [0, 0] }[kind];
    const [queryWeight, keyWeight] = norms.map((size) => rounded(random.normals(size))) as [Float64Array, Float64Array];
    const qkNorm = kind === 'none' ? null : { kind, queryWeight, keyWeight, eps: Math.fround(1e-5) };
    const twin = ropeKv(qkv, positions, heads, { rope, qkNorm });
    const pages = [2, 0, 1];
    const pageSize = 64 * kvHeadCount * headDim;
    const [query, keys, values] = [
      empty(2 * headCount * headDim),
      empty((3 * pageSize) / 2),
      empty((3 * pageSize) / 2),
    ];
    const buffers = {
      rows: rowsOf(positions),
      qkv: floats(qkv),
      rotation: floats(rotationTable(131, rope)),
      blockTable: words(pages),
      headNorm: floats([...queryWeight, ...keyWeight, 0]),
      query,
      keys,
      values,
    };
    const options = { rotaryDim: rope.rotaryDim, qkNorm: kind, epsilon: 1e-5 };
    run({ rows: 2, blocks: 3 }, await ropeKvStep(device(), buffers, { ...heads, blocksPerSlot: 3 }, options));
    expectClose(await readFloats(query), twin.q);
    const halvesOf = async (buffer: GPUBuffer) =>
      Float64Array.from(new Uint16Array((await readUints(buffer)).buffer), decodeFloat16);
    const [gotKeys, gotValues] = [await halvesOf(keys), await halvesOf(values)];
    positions.forEach((position, t) => {
      const offset = position % 64;
      for (let head = 0; head < kvHeadCount; head++) {
        const page = (pages[Math.floor(position / 64)] as number) * kvHeadCount + head;
        const key = Array.from(
          { length: headDim },
          (_, d) => gotKeys[((page * (headDim / 4) + Math.floor(d / 4)) * 64 + offset) * 4 + (d % 4)] as number,
        );
        const start = (t * kvHeadCount + head) * headDim;
        expectClose(key, roundToCache(twin.k.subarray(start, start + headDim)), 2 ** -11);
        const got = gotValues.subarray((page * 64 + offset) * headDim, (page * 64 + offset + 1) * headDim);
        expect(got).toEqual(roundToCache(twin.v.subarray(start, start + headDim)));
      }
    });
    // And nowhere else.
    expect(gotValues.filter((x) => x !== 0).length).toBe(2 * kvHeadCount * headDim);
    expect(gotKeys.filter((x) => x !== 0).length).toBe(2 * kvHeadCount * headDim);
  },
);

it('keeps what is not finite recognisable', async () => {
  const qkv = new Float32Array(width).fill(1);
  const [kvStart, valueStart] = [headCount * headDim, (headCount + kvHeadCount) * headDim];
  qkv.set([Number.NaN, Number.POSITIVE_INFINITY], kvStart);
  qkv.set([Number.NEGATIVE_INFINITY, 1, Number.NaN], valueStart);
  const pageWords = (64 * kvHeadCount * headDim) / 2;
  const [query, keys, values] = [empty(headCount * headDim), empty(pageWords), empty(pageWords)];
  const rotation = floats(rotationTable(1, plainRope(headDim, 100)));
  const buffers = { rows: rowsOf([0]), qkv: words(new Uint32Array(qkv.buffer)), rotation, blockTable: words([0]) };
  const options = { rotaryDim: headDim, qkNorm: 'none', epsilon: 0 } as const;
  const shape = { ...heads, blocksPerSlot: 1 };
  run(
    { rows: 1, blocks: 1 },
    await ropeKvStep(device(), { ...buffers, headNorm: empty(4), query, keys, values }, shape, options),
  );
  const halves = async (buffer: GPUBuffer) =>
    [...new Uint16Array((await readUints(buffer)).buffer).subarray(0, 4)].map(decodeFloat16);
  const isNaNs = async (buffer: GPUBuffer) => (await halves(buffer)).map(Number.isNaN);
  expect(await isNaNs(keys)).toEqual([true, true, false, false]);
  expect(await isNaNs(values)).toEqual([true, false, true, false]);
});
