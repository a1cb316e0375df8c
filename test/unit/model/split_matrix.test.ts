/** Embedding and head in parts that one binding holds. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  firstRows,
  type PackedMatrix,
  packedBytes,
  partRows,
  rowsPerGroup,
  segmentsOf,
} from '../../../src/kernels/packed.ts';

const format = fc.constantFrom('f16', 'q8', 'q4');
const inputSize = fc.integer({ min: 1, max: 1024 }).map((vectors) => vectors * 4);

test('parts hold all rows, each no more bytes than asked, and as few parts as that takes', () => {
  fc.assert(
    fc.property(
      format,
      inputSize,
      fc.integer({ min: 1, max: 300_000 }),
      fc.integer({ min: 2 ** 20, max: 2 ** 28 }),
      (stored, width, outputSize, partBytes) => {
        const counts = partRows({ outputSize, inputSize: width }, stored, partBytes);
        const bytesOf = (rows: number) => packedBytes({ outputSize: rows, inputSize: width }, stored).words;
        expect(counts.reduce((sum, count) => sum + count, 0)).toBe(outputSize);
        for (const count of counts) expect(bytesOf(count)).toBeLessThanOrEqual(partBytes);
        expect(counts.length).toBe(Math.ceil(bytesOf(outputSize) / bytesOf(counts[0] as number)));
        // The rows of the next workgroup, two groups, would not fit.
        const groupRows = rowsPerGroup(segmentsOf(width, stored).segments);
        expect((counts[0] as number) % (2 * groupRows) === 0 || counts.length === 1).toBe(true);
        if (counts.length > 1) expect(bytesOf((counts[0] as number) + groupRows + 1)).toBeGreaterThan(partBytes);
      },
    ),
  );
});

test('one part where there is no limit, or it holds all; never none', () => {
  expect(partRows({ outputSize: 262_144, inputSize: 640 }, 'q8', Infinity)).toEqual([262_144]);
  expect(partRows({ outputSize: 262_144, inputSize: 640 }, 'q8', 2 ** 27)).toHaveLength(2); // Gemma 3 270M on 128 MiB
  expect(partRows({ outputSize: 5, inputSize: 4096 }, 'f16', 1)).toEqual([4, 1]); // those of a workgroup stay together
});

test('the first rows of a split matrix: whole parts, a piece of the last, all in the buffers that there are', () => {
  const part = (firstRow: number, outputSize: number) => {
    const matrix = { outputSize, inputSize: 64, format: 'f16', segments: 4, segmentWords: 2 } as PackedMatrix;
    return { firstRow, matrix: { ...matrix, buffer: { label: `from ${firstRow}` } as GPUBuffer } };
  };
  const split = [part(0, 32), part(32, 32), part(64, 10)];
  const rowsOf = (count: number) =>
    firstRows(split, count).map(({ firstRow, matrix }) => [firstRow, matrix.outputSize]);
  expect(rowsOf(1)).toEqual([[0, 1]]);
  expect(rowsOf(32)).toEqual([[0, 32]]);
  expect(rowsOf(33)).toEqual([
    [0, 32],
    [32, 1],
  ]);
  expect(firstRows(split, 74)).toEqual(split);
  expect(firstRows(split, Infinity)).toEqual(split);
  expect(firstRows(split, 70)[2]).toEqual(part(64, 6));
});
