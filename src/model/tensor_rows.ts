/** The tensors of a file as slices of rows, in the order of the file: what is held at a time does not grow with the model. */
import { packSliceBytes } from '../kernels/pack.ts';
import type { ByteReader } from './byte_reader.ts';
import { isBlockDtype, type WeightDtype } from './gguf_blocks.ts';

/** Some rows of a tensor: a row is what stands at one index of its first dimension. */
export type TensorRows = {
  name: string;
  dtype: WeightDtype;
  /** Of the whole tensor. */
  shape: readonly number[];
  firstRow: number;
  rowCount: number;
  /** Row-major, little-endian. It is overwritten when the next rows are asked for. */
  data: Uint8Array;
};

/** A tensor by name, and where it lies: bytes from the start of what the reader reads. */
export type PlacedTensor = Pick<TensorRows, 'name' | 'dtype' | 'shape'> & {
  begin: number;
  end: number;
  /** Slices hold whole multiples of so many rows. Default 1. */
  rowGroup?: number;
};

/**
 * @param tensors in any order; none of them overlap
 * @param truncated throws: the bytes end at the reader's position, within this tensor
 */
export async function* readRows(
  reader: ByteReader,
  tensors: readonly PlacedTensor[],
  truncated: (tensor: PlacedTensor) => never,
): AsyncGenerator<TensorRows, void, void> {
  const inOrder = tensors.toSorted((a, b) => a.begin - b.begin);
  const buffer = new Uint8Array(Math.max(0, ...inOrder.map((tensor) => sliceRows(tensor) * rowBytes(tensor))));
  for (const tensor of inOrder) {
    const { name, dtype, shape, begin } = tensor;
    await reader.skip(begin - reader.position());
    const rows = shape[0] as number;
    for (let firstRow = 0; firstRow < rows; firstRow += sliceRows(tensor)) {
      const rowCount = Math.min(sliceRows(tensor), rows - firstRow);
      const data = buffer.subarray(0, rowCount * rowBytes(tensor));
      if ((await reader.fill(data)) < data.length) truncated(tensor);
      yield { name, dtype, shape, firstRow, rowCount, data };
    }
  }
}

const rowBytes = ({ begin, end, shape }: PlacedTensor) => (end - begin) / (shape[0] as number);

/** As many as the packer takes at a time, decoded to float32 where they are quantised; at least one group. */
function sliceRows(tensor: PlacedTensor): number {
  const { dtype, shape, rowGroup = 1 } = tensor;
  const rows = shape[0] as number;
  const decodedBytes = isBlockDtype(dtype) ? shape.slice(1).reduce((product, size) => product * size, 4) : 0;
  const groups = Math.floor(packSliceBytes / Math.max(rowBytes(tensor), decodedBytes) / rowGroup);
  return Math.min(rows, Math.max(1, groups) * rowGroup);
}
