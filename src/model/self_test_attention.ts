import { createStorage, createStorageFrom, destroyBuffer } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep } from '../gpu/kernel.ts';
import { readBuffer } from '../gpu/readback.ts';
import { submitPass } from '../gpu/submit.ts';
import { attentionStep, groupRowsOf, partialsSize, queryVariantOf, queryVariantsOf } from '../kernels/attention.ts';
import { rowsSize } from '../kernels/rows.ts';
import type { ModelConfig } from './config.ts';
import { pseudoRandom } from './self_test.ts';

type Heads = Pick<ModelConfig, 'headCount' | 'kvHeadCount' | 'headDim'>;

const blocks = 2;
/** Of the first row: the second block is seen in part. */
const firstPosition = 64 + 37;

/**
 * Does a query get the same bits from each pipeline of attention on this device? As findRowMismatches asks of matmuls.
 * @returns the names of the variants that differ from that of 8 queries; empty when all agree.
 */
export async function findAttentionMismatches(gpu: Gpu, models: readonly Heads[]): Promise<string[]> {
  const before = new Set(gpu.buffers); // the steps' parameters are among what is made here
  const mismatches: string[] = [];
  const tested = new Set<string>();
  const noise = pseudoRandom(2);
  try {
    for (const { headCount, kvHeadCount, headDim } of models) {
      const heads = { headCount, kvHeadCount, headDim };
      const what = `heads ${headCount}/${kvHeadCount}/${headDim}`;
      if (tested.has(what) || queryVariantsOf(heads).length === 1) continue;
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
        blockTable: createStorageFrom(gpu, 'self-test block table', Uint32Array.from([1, 0])),
      };
      const run = async (rowCount: number, paddedQueries: boolean): Promise<Uint32Array> => {
        const words = new Uint32Array(rowsSize(mostRows) / 4);
        words.set([rowCount, 0, 1]); // one query group
        for (let row = 0; row < rowCount; row++) words[4 + row * 4 + 2] = firstPosition + row;
        words[4 + 3] = rowCount << 16;
        const rows = createStorageFrom(gpu, 'self-test rows', words);
        const partials = createStorage(gpu, 'self-test partials', partialsSize(mostRows, shape));
        const options = { scale: 1 / Math.sqrt(headDim), window: null, paddedQueries };
        const step = await attentionStep(gpu, { ...cache, rows, partials }, shape, options);
        submitPass(gpu, 'self-test', (pass) => encodeStep(pass, step, { rows: rowCount, blocks }));
        return new Uint32Array(await readBuffer(gpu, partials));
      };
      const reference = await run(mostRows, true);
      for (let rowCount = 1; rowCount <= mostRows; rowCount++) {
        const queries = queryVariantOf(heads, rowCount);
        if (rowCount < mostRows && queryVariantOf(heads, rowCount + 1) === queries) continue; // tested with more rows
        const words = (await run(rowCount, false)).subarray(0, partialsSize(rowCount, shape) / 4);
        if (words.some((word, i) => word !== reference[i])) mismatches.push(`attention of ${queries}, ${what}`);
      }
    }
  } finally {
    for (const buffer of gpu.buffers) if (!before.has(buffer)) destroyBuffer(gpu, buffer);
  }
  return mismatches;
}
