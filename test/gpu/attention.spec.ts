import { describe, expect, it } from 'vitest';
import {
  attentionStep,
  groupRowsOf,
  partialsSize,
  queryVariantOf,
  queryVariantsOf,
} from '../../src/kernels/attention.ts';
import { attentionFoldStep } from '../../src/kernels/attention_fold.ts';
import { attentionLane, attentionLaneStep } from '../../src/kernels/attention_lane.ts';
import { attentionTileStep, tileQueriesOf } from '../../src/kernels/attention_tile.ts';
import { ropeKvStep } from '../../src/kernels/rope_kv.ts';
import { rotationTable } from '../../src/model/rope.ts';
import { findAttentionMismatches } from '../../src/model/self_test_attention.ts';
import { attention } from '../reference/attention.ts';
import { decodeFloat16, roundToCache } from '../reference/float_formats.ts';
import { createRandom } from '../reference/random.ts';
import { plainRope, ropeKv } from '../reference/rope_kv.ts';
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
  withShaders,
  words,
} from './kernel_bench.ts';

// A window within a block, one that begins inside another, one of exactly a block, and one that is never full.
const windows = [null, 5, 64, 100, 1000];

describe.each([
  { headCount: 4, kvHeadCount: 2, headDim: 64, windows },
  { headCount: 3, kvHeadCount: 1, headDim: 20, windows },
  { headCount: 11, kvHeadCount: 1, headDim: 16, windows: [100] }, // a group of more than 8
  { headCount: 2, kvHeadCount: 2, headDim: 128, windows: [null] },
  { headCount: 2, kvHeadCount: 1, headDim: 80, windows: [100] },
  { headCount: 1, kvHeadCount: 1, headDim: 96, windows: [null] },
  { headCount: 2, kvHeadCount: 1, headDim: 256, windows: [100] },
  { headCount: 1, kvHeadCount: 1, headDim: 260, windows: [null] }, // more vectors than lanes
])('rope_kv and attention $headCount/$kvHeadCount/$headDim', (heads) => {
  const rope = plainRope(heads.headDim, 10_000);

  it.each(heads.windows)('equal their twins across blocks, window %s', async (window) => {
    const { headCount, kvHeadCount, headDim } = heads;
    const rowCount = 150; // three blocks
    const width = (headCount + 2 * kvHeadCount) * headDim;
    const positions = Array.from({ length: rowCount }, (_, i) => i);
    const qkv = rounded(createRandom(headDim).normals(rowCount * width));
    const twin = ropeKv(qkv, positions, heads, { rope });
    const shape = { ...heads, blocksPerSlot: 3 };
    const kvWords = (3 * 64 * kvHeadCount * headDim) / 2;
    const query = empty(rowCount * headCount * headDim);
    const rows = rowsOf(positions, { groupRows: groupRowsOf(heads) });
    const pages = [2, 0, 1];
    const blockTable = words(pages);
    const keys = empty(kvWords);
    const values = empty(kvWords);
    const partials = empty(partialsSize(rowCount, shape) / 4);
    const output = empty(rowCount * headCount * headDim);
    const tiled = empty(rowCount * headCount * headDim);
    const byLanes = empty(rowCount * headCount * headDim);
    const lanePartials = empty(partialsSize(rowCount, shape) / 4);
    const rotation = floats(rotationTable(rowCount, rope));
    const scale = 0.3 / Math.sqrt(headDim);
    const headNorm = empty(4);
    const buffers = { rows, qkv: floats(qkv), rotation, blockTable, headNorm, query, keys, values };
    run(
      { rows: rowCount, blocks: 3 },
      await ropeKvStep(device(), buffers, shape, {
        rotaryDim: headDim,
        qkNorm: 'none',
        epsilon: 1e-6,
      }),
      await attentionStep(device(), { rows, query, keys, values, blockTable, partials }, shape, {
        scale,
        window,
        paddedQueries: false,
      }),
      await attentionFoldStep(device(), { rows, partials, output }, shape, { window }),
      await attentionTileStep(device(), { rows, query, keys, values, blockTable, output: tiled }, shape, {
        scale,
        window,
      }),
      await attentionLaneStep(device(), { rows, query, keys, values, blockTable, partials: lanePartials }, shape, {
        scale,
        window,
      }),
      await attentionFoldStep(device(), { rows, partials: lanePartials, output: byLanes }, shape, { window }),
    );
    expectClose(await readFloats(query), twin.q);
    // The twin attends to what the cache has: where rounding to f16 tips over is another matter.
    const halvesOf = async (buffer: GPUBuffer, indexOf: (page: number, dim: number, offset: number) => number) => {
      const halves = new Uint16Array((await readUints(buffer)).buffer);
      return Float64Array.from({ length: rowCount * kvHeadCount * headDim }, (_, i) => {
        const position = Math.floor(i / (kvHeadCount * headDim));
        const page = (pages[position >> 6] as number) * kvHeadCount + (Math.floor(i / headDim) % kvHeadCount);
        return decodeFloat16(halves[indexOf(page, i % headDim, position % 64)] as number);
      });
    };
    const k = await halvesOf(keys, (page, d, at) => ((page * (headDim / 4) + (d >> 2)) * 64 + at) * 4 + (d % 4));
    const v = await halvesOf(values, (page, d, at) => (page * 64 + at) * headDim + d);
    expectClose(k, roundToCache(twin.k), 2 ** -11);
    expect(v).toEqual(roundToCache(twin.v));
    expect(await readUints(tiled)).toEqual(await readUints(output));
    expect(await readUints(byLanes)).toEqual(await readUints(output));
    expectClose(await readFloats(output), attention(twin.q, k, v, positions, heads, { scale, window }), 1e-5);
  });
});

it('a pass takes the pipeline with room for its queries, and no more are made', () => {
  const variants = (headCount: number, kvHeadCount: number) => queryVariantsOf({ headCount, kvHeadCount });
  expect(variants(32, 32)).toEqual([1, 2, 4, 8]);
  expect(variants(9, 3)).toEqual([4, 8]);
  expect(variants(14, 2)).toEqual([8]);
  expect(variants(11, 1)).toEqual([8]);
  const heads = { headCount: 4, kvHeadCount: 2 };
  expect([1, 2, 3, 4, 64].map((rows) => queryVariantOf(heads, rows))).toEqual([2, 4, 8, 8, 8]);
});

it('a workgroup of the tile takes as many queries as fit into the memory that every device has', () => {
  expect([16, 128, 180, 184, 256, 512, 1024].map(tileQueriesOf)).toEqual([8, 8, 8, 4, 4, 4, 2]);
});

it('lanes by themselves wait for nobody', () => {
  expect(attentionLane.code).not.toMatch(/Barrier|var<workgroup>/);
});

it('the load-time self-test finds no difference here, and catches planted changes', async () => {
  const models = [
    { headCount: 4, kvHeadCount: 4, headDim: 64 },
    { headCount: 4, kvHeadCount: 2, headDim: 20 },
    { headCount: 6, kvHeadCount: 2, headDim: 128 },
    { headCount: 11, kvHeadCount: 1, headDim: 16 },
  ];
  expect(await findAttentionMismatches(device(), models, 'workgroup')).toEqual([]);
  const swapped = (label: string, code: string) =>
    label.includes('QUERIES=4')
      ? code.replace('q.x * k.x', 'q.SWAP').replace('q.w * k.w', 'q.x * k.x').replace('q.SWAP', 'q.w * k.w')
      : code;
  expect(await withShaders(swapped, () => findAttentionMismatches(device(), models, 'workgroup'))).toEqual([
    'attention of 4, heads 4/4/64',
    'attention of 4, heads 4/2/20',
    'attention of 4, heads 6/2/128',
  ]);
  expect(await findAttentionMismatches(device(), models, 'lane')).toEqual([]);
  const reversed = (label: string, code: string) =>
    label.startsWith('attention_lane')
      ? code.replace('total0 = total0 + part0', 'total0 = part0 + 1.0000001 * total0')
      : code;
  expect(await withShaders(reversed, () => findAttentionMismatches(device(), models.slice(0, 1), 'lane'))).toEqual([
    'attention tile, heads 4/4/64',
  ]);
  const inverted = (label: string, code: string) =>
    label.startsWith('attention_tile') ? code.replace('/ foldedSums[j]', '* (1.0 / foldedSums[j])') : code;
  expect(await withShaders(inverted, () => findAttentionMismatches(device(), models, 'workgroup'))).toEqual([
    'attention tile, heads 4/4/64',
    'attention tile, heads 4/2/20',
    'attention tile, heads 6/2/128',
    'attention tile, heads 11/1/16',
  ]);
});
