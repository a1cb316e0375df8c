import { createStorage, createStorageFrom, withTemporaries } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep, type Step } from '../gpu/kernel.ts';
import { readBuffer } from '../gpu/readback.ts';
import { submitPass } from '../gpu/submit.ts';
import { attentionStep, groupRowsOf, partialsSize, queryVariantOf } from '../kernels/attention.ts';
import { attentionFoldStep } from '../kernels/attention_fold.ts';
import { attentionLaneStep } from '../kernels/attention_lane.ts';
import { attentionTileStep } from '../kernels/attention_tile.ts';
import type { KernelKind } from '../kernels/kernel_kind.ts';
import { rowsSize } from '../kernels/rows.ts';
import type { ModelConfig } from './config.ts';
import { pseudoRandom } from './self_test.ts';

type Heads = Pick<ModelConfig, 'headCount' | 'kvHeadCount' | 'headDim'>;

const blocks = 3;
/** Of the first row: it sees the second block in part, and rows after it see the third. */
const firstPosition = 64 + 60;

/**
 * Does a query get the same bits from each pipeline of attention on this device, and from the tile those of attention and
 * its fold? As findRowMismatches asks of matmuls.
 * @returns the names of the variants that differ from that of 8 queries; empty when all agree.
 */
export async function findAttentionMismatches(
  gpu: Gpu,
  models: readonly Heads[],
  kernelKind: KernelKind,
): Promise<string[]> {
  return withTemporaries(gpu, async () => {
    const mismatches: string[] = [];
    const tested = new Set<string>();
    const noise = pseudoRandom(2);
    for (const { headCount, kvHeadCount, headDim } of models) {
      const heads = { headCount, kvHeadCount, headDim };
      const what = `heads ${headCount}/${kvHeadCount}/${headDim}`;
      if (tested.has(what)) continue;
      tested.add(what);
      const shape = { ...heads, blocksPerSlot: blocks };
      const mostRows = groupRowsOf(heads);
      // Float16 bits below 2 in magnitude, two to a word.
      const halves = () =>
        Uint32Array.from({ length: (blocks * 64 * kvHeadCount * headDim) / 2 }, () => {
          const [low, high] = [(noise() + 1) * 0x1e00, (noise() + 1) * 0x1e00];
          return low | (high << 16);
        });
      const cache = {
        query: createStorageFrom(
          gpu,
          'self-test query',
          Float32Array.from({ length: mostRows * headCount * headDim }, noise),
        ),
        keys: createStorageFrom(gpu, 'self-test keys', halves()),
        values: createStorageFrom(gpu, 'self-test values', halves()),
        blockTable: createStorageFrom(gpu, 'self-test block table', Uint32Array.from([1, 2, 0])),
      };
      const rowsOf = (rowCount: number): GPUBuffer => {
        const words = new Uint32Array(rowsSize(mostRows) / 4);
        words.set([rowCount, 0, 1]); // one query group
        for (let row = 0; row < rowCount; row++) words[4 + row * 4 + 2] = firstPosition + row;
        words[4 + 3] = rowCount << 16;
        return createStorageFrom(gpu, 'self-test rows', words);
      };
      const options = { scale: 1 / Math.sqrt(headDim), window: null };
      const rowBytes = headCount * headDim * 4;
      /** What the steps leave in an output that was empty before. */
      const run = async (
        rowCount: number,
        create: (rows: GPUBuffer, output: GPUBuffer) => Promise<Step>[],
      ): Promise<Uint32Array> => {
        const output = createStorage(gpu, 'self-test output', rowCount * rowBytes);
        const steps = await Promise.all(create(rowsOf(rowCount), output));
        submitPass(gpu, 'self-test', (pass) => {
          for (const step of steps) encodeStep(pass, step, { rows: rowCount, blocks });
        });
        return new Uint32Array(await readBuffer(gpu, output));
      };
      const split = (paddedQueries: boolean) => (rows: GPUBuffer, output: GPUBuffer) => {
        const partials = createStorage(gpu, 'self-test partials', partialsSize(mostRows, shape));
        return [
          kernelKind === 'lane'
            ? attentionLaneStep(gpu, { ...cache, rows, partials }, shape, options)
            : attentionStep(gpu, { ...cache, rows, partials }, shape, { ...options, paddedQueries }),
          attentionFoldStep(gpu, { rows, partials, output }, shape, options),
        ];
      };
      const reference = await run(mostRows, split(true));
      const compare = (name: string, words: Uint32Array) => {
        if (words.some((word, i) => word !== reference[i])) mismatches.push(`${name}, ${what}`);
      };
      // Lanes have one pipeline for any number of rows.
      for (let rowCount = 1; rowCount < mostRows && kernelKind === 'workgroup'; rowCount++) {
        const queries = queryVariantOf(heads, rowCount);
        if (queryVariantOf(heads, rowCount + 1) === queries) continue; // tested with more rows
        compare(`attention of ${queries}`, await run(rowCount, split(false)));
      }
      const tile = (rows: GPUBuffer, output: GPUBuffer) => [
        attentionTileStep(gpu, { ...cache, rows, output }, shape, options),
      ];
      compare('attention tile', await run(mostRows, tile));
    }
    return mismatches;
  });
}
