import { describe, expect, test } from 'vitest';
import { packSliceBytes } from '../../../src/kernels/pack.ts';
import { streamOf } from '../../../src/model/body.ts';
import { createByteReader } from '../../../src/model/byte_reader.ts';
import { openModel, readWeights } from '../../../src/model/load.ts';
import { type PlacedTensor, readRows, type TensorRows } from '../../../src/model/tensor_rows.ts';
import { syntheticModel } from '../../reference/synthetic_model.ts';

const place = (name: string, dtype: PlacedTensor['dtype'], shape: number[], begin: number, rowBytes: number) => ({
  ...{ name, dtype, shape, begin, end: begin + (shape[0] as number) * rowBytes },
});

describe('slices', () => {
  const read = async (bytes: Uint8Array, tensors: PlacedTensor[]) => {
    const reader = createByteReader(streamOf(bytes));
    const rows: TensorRows[] = [];
    const truncated = ({ name }: PlacedTensor): never => {
      throw new Error(`${name} ends at ${reader.position()}`);
    };
    for await (const some of readRows(reader, tensors, truncated)) rows.push({ ...some, data: some.data.slice() });
    return rows;
  };
  const bytes = Uint8Array.from({ length: 20 * 2 ** 20 }, (_, i) => (i * 31) % 251);

  test('in the order of the file, over what is not wanted, of no more than the packer takes', async () => {
    const tensors = [place('later', 'F32', [3, 5], 19 * 2 ** 20, 20), place('large', 'F16', [6000, 1000], 7, 2000)];
    const rows = await read(bytes, tensors);
    const count = Math.floor(packSliceBytes / 2000);
    expect(rows.map(({ name, firstRow, rowCount }) => [name, firstRow, rowCount])).toEqual([
      ['large', 0, count],
      ['large', count, 6000 - count],
      ['later', 0, 3],
    ]);
    const joined = Buffer.concat(rows.filter(({ name }) => name === 'large').map(({ data }) => data));
    expect(joined.equals(bytes.subarray(7, 7 + 12_000_000))).toBe(true);
    expect(Buffer.from(rows[2]!.data).equals(bytes.subarray(19 * 2 ** 20, 19 * 2 ** 20 + 60))).toBe(true);
  });

  test('blocks are counted as the float32 that they become, and groups of rows stay together', async () => {
    // 256 values a row: 18 · 8 bytes in the file, 1 KiB decoded.
    const [some] = await read(bytes, [place('blocks', 'Q4_0', [20_000, 256], 0, 144)]);
    expect(some!.rowCount).toBe(8192);
    const grouped = await read(bytes, [{ ...place('blocks', 'Q4_0', [20_000, 256], 0, 144), rowGroup: 1000 }]);
    expect(grouped.map(({ rowCount }) => rowCount)).toEqual([8000, 8000, 4000]);
    const rows = await read(bytes, [{ ...place('wide', 'F32', [4, 2 ** 20], 0, 2 ** 22), rowGroup: 4 }]);
    expect(rows.map(({ rowCount }) => rowCount)).toEqual([4]);
  });

  test('bytes that end within a tensor', async () => {
    await expect(read(bytes.subarray(0, 1000), [place('a', 'F16', [100, 10], 0, 20)])).rejects.toThrow(
      'a ends at 1000',
    );
  });
});

test('a model of 400 MB: never more than a slice and a chunk ahead of its user, in one buffer', async () => {
  const model = syntheticModel({ hiddenSize: 2048, ffnSize: 8192, layerCount: 2, vocabSize: 32_000 });
  expect(model.sizeBytes).toBeGreaterThan(350e6);
  const opened = await openModel(model.source, 'target');
  const buffers = new Set<ArrayBufferLike>();
  let used = 0;
  let most = 0;
  for await (const { data } of readWeights(opened, 'target')) {
    most = Math.max(most, model.readBytes() - used);
    used += data.length;
    buffers.add(data.buffer);
  }
  expect(used).toBe(model.readBytes());
  expect(buffers.size).toBe(1);
  expect([...buffers][0]!.byteLength).toBeLessThanOrEqual(packSliceBytes);
  expect(most).toBeLessThanOrEqual(packSliceBytes + 65_536);
});

// As browsers and newer versions of Node have it.
const prototype = ArrayBuffer.prototype as { transfer?: unknown };
prototype.transfer ??= function (this: ArrayBuffer) {
  return structuredClone(this, { transfer: [this] });
};

test.each([true, false])(
  'chunks are freed once they are read, where nobody else has them: %s',
  async (isDisposable) => {
    const made: Uint8Array[] = [];
    async function* chunks(): AsyncGenerator<Uint8Array, void, void> {
      for (const first of [0, 4, 8]) {
        const chunk = Uint8Array.from({ length: 4 }, (_, i) => first + i);
        made.push(chunk);
        yield chunk;
      }
    }
    const reader = createByteReader({ chunks: chunks(), isDisposable });
    expect([...(await reader.take(6))]).toEqual([0, 1, 2, 3, 4, 5]);
    const rest = new Uint8Array(6);
    expect(await reader.fill(rest)).toBe(6);
    expect([...rest]).toEqual([6, 7, 8, 9, 10, 11]);
    expect(made.map(({ length }) => length)).toEqual(isDisposable ? [0, 0, 4] : [4, 4, 4]);
  },
);
