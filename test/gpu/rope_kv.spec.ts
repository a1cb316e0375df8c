import { expect, it } from 'vitest';
import { ropeKvStep } from '../../src/kernels/rope_kv.ts';
import { rotationTable } from '../../src/model/kv_cache.ts';
import { createRandom } from '../reference/random.ts';
import { ropeKv } from '../reference/rope_kv.ts';
import { device, empty, expectClose, floats, readFloats, rounded, rowsOf, run, words } from './kernel_bench.ts';

it('writes rotated keys transposed and values as they are, into the page of the position', async () => {
  const heads = { headCount: 3, kvHeadCount: 1, headDim: 20 };
  const positions = [70, 130];
  const qkv = rounded(createRandom(1).normals(2 * 100));
  const twin = ropeKv(qkv, positions, heads, 10_000);
  const pages = [2, 0, 1];
  const [keys, values] = [empty(3 * 64 * 20), empty(3 * 64 * 20)];
  const rotation = floats(rotationTable(131, 20, 10_000));
  const buffers = {
    rows: rowsOf(positions),
    qkv: floats(qkv),
    rotation,
    blockTable: words(pages),
    query: empty(120),
    keys,
    values,
  };
  run({ rows: 2, blocks: 3 }, await ropeKvStep(device(), buffers, { ...heads, blocksPerSlot: 3 }));
  const [gotKeys, gotValues] = [await readFloats(keys), await readFloats(values)];
  positions.forEach((position, t) => {
    const page = pages[Math.floor(position / 64)] as number;
    const offset = position % 64;
    const key = Array.from(
      { length: 20 },
      (_, d) => gotKeys[((page * 5 + Math.floor(d / 4)) * 64 + offset) * 4 + (d % 4)] as number,
    );
    expectClose(key, twin.k.subarray(t * 20, (t + 1) * 20));
    const start = (page * 64 + offset) * 20;
    expect(Array.from(gotValues.subarray(start, start + 20))).toEqual(
      Array.from(twin.v.subarray(t * 20, (t + 1) * 20)),
    );
  });
  expect(gotValues.filter((x) => x !== 0).length).toBe(40); // and nowhere else
});
