import type { Tensor } from './checkpoint.ts';
import { decodeFloat16 } from './float_formats.ts';

const bytesPerValue = { F16: 2, BF16: 2, F32: 4 };

// 65,536 entries once, instead of a decode per weight.
const float16Values = Float64Array.from({ length: 65536 }, (_, bits) => decodeFloat16(bits));

/** The values of a stored tensor, exactly: every F16, BF16 and F32 value is a float64 value. */
export function dequantize(tensor: Tensor): Float64Array {
  const { dtype, data } = tensor;
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  if (data.byteLength !== count * bytesPerValue[dtype]) {
    const expected = `${dtype} [${tensor.shape.join(', ')}] of ${count * bytesPerValue[dtype]} bytes`;
    throw new RangeError(`Expected ${expected}, got ${data.byteLength} bytes.`);
  }
  // A DataView, because tensors of a file lie at any byte offset and files are little-endian on every machine.
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const values = new Float64Array(count);
  if (dtype === 'F16') {
    for (let i = 0; i < count; i++) values[i] = float16Values[view.getUint16(2 * i, true)]!;
  } else if (dtype === 'F32') {
    for (let i = 0; i < count; i++) values[i] = view.getFloat32(4 * i, true);
  } else {
    const upperHalf = new DataView(new ArrayBuffer(4));
    for (let i = 0; i < count; i++) {
      upperHalf.setUint16(2, view.getUint16(2 * i, true), true);
      values[i] = upperHalf.getFloat32(0, true);
    }
  }
  return values;
}
