import { expect, it } from 'vitest';
import { ropeKvStep } from '../../src/kernels/rope_kv.ts';
import { type RopeConfig, rotationTable } from '../../src/model/rope.ts';
import { createRandom } from '../reference/random.ts';
import { plainRope, type QkNorm, ropeKv } from '../reference/rope_kv.ts';
import { device, empty, expectClose, floats, readFloats, rounded, rowsOf, run, words } from './kernel_bench.ts';

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
    const norms = { head: [headDim, headDim], full: [headCount * headDim, kvHeadCount * headDim], none: [0, 0] }[kind];
    const [queryWeight, keyWeight] = norms.map((size) => rounded(random.normals(size))) as [Float64Array, Float64Array];
    const qkNorm = kind === 'none' ? null : { kind, queryWeight, keyWeight, eps: Math.fround(1e-5) };
    const twin = ropeKv(qkv, positions, heads, { rope, qkNorm });
    const pages = [2, 0, 1];
    const pageSize = 64 * kvHeadCount * headDim;
    const [query, keys, values] = [empty(2 * headCount * headDim), empty(3 * pageSize), empty(3 * pageSize)];
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
    const [gotKeys, gotValues] = [await readFloats(keys), await readFloats(values)];
    positions.forEach((position, t) => {
      const offset = position % 64;
      for (let head = 0; head < kvHeadCount; head++) {
        const page = (pages[Math.floor(position / 64)] as number) * kvHeadCount + head;
        const key = Array.from(
          { length: headDim },
          (_, d) => gotKeys[((page * (headDim / 4) + Math.floor(d / 4)) * 64 + offset) * 4 + (d % 4)] as number,
        );
        const start = (t * kvHeadCount + head) * headDim;
        expectClose(key, twin.k.subarray(start, start + headDim));
        const got = gotValues.subarray((page * 64 + offset) * headDim, (page * 64 + offset + 1) * headDim);
        expect(Array.from(got)).toEqual(Array.from(twin.v.subarray(start, start + headDim)));
      }
    });
    // And nowhere else.
    expect(gotValues.filter((x) => x !== 0).length).toBe(2 * kvHeadCount * headDim);
    expect(gotKeys.filter((x) => x !== 0).length).toBe(2 * kvHeadCount * headDim);
  },
);
