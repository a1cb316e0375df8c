import { describe, it } from 'vitest';
import { attentionStep, partialsSize } from '../../src/kernels/attention.ts';
import { attentionFoldStep } from '../../src/kernels/attention_fold.ts';
import { ropeKvStep } from '../../src/kernels/rope_kv.ts';
import { rotationTable } from '../../src/model/kv_cache.ts';
import { attention } from '../reference/attention.ts';
import { createRandom } from '../reference/random.ts';
import { ropeKv } from '../reference/rope_kv.ts';
import { device, empty, expectClose, floats, readFloats, rounded, rowsOf, run, words } from './kernel_bench.ts';

describe.each([
  { headCount: 4, kvHeadCount: 2, headDim: 64 },
  { headCount: 3, kvHeadCount: 1, headDim: 20 },
  { headCount: 2, kvHeadCount: 2, headDim: 128 },
])('rope_kv and attention $headCount/$kvHeadCount/$headDim', (heads) => {
  it('equal their twins across blocks, through a permuted block table', async () => {
    const { headCount, kvHeadCount, headDim } = heads;
    const rowCount = 150; // three blocks
    const width = (headCount + 2 * kvHeadCount) * headDim;
    const positions = Array.from({ length: rowCount }, (_, i) => i);
    const qkv = rounded(createRandom(headDim).normals(rowCount * width));
    const twin = ropeKv(qkv, positions, heads, 10_000);
    const shape = { ...heads, blocksPerSlot: 3 };
    const kvFloats = 3 * 64 * kvHeadCount * headDim;
    const query = empty(rowCount * headCount * headDim);
    const rows = rowsOf(positions);
    const blockTable = words([2, 0, 1]);
    const keys = empty(kvFloats);
    const values = empty(kvFloats);
    const partials = empty(partialsSize(rowCount, shape) / 4);
    const output = empty(rowCount * headCount * headDim);
    const rotation = floats(rotationTable(rowCount, headDim, 10_000));
    run(
      { rows: rowCount, blocks: 3 },
      await ropeKvStep(device(), { rows, qkv: floats(qkv), rotation, blockTable, query, keys, values }, shape),
      await attentionStep(device(), { rows, query, keys, values, blockTable, partials }, shape),
      await attentionFoldStep(device(), { rows, partials, output }, shape),
    );
    expectClose(await readFloats(query), twin.q);
    expectClose(await readFloats(output), attention(twin.q, twin.k, twin.v, positions, heads), 1e-5);
  });
});
