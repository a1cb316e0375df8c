import { float16ToNumber } from './float16.ts';
import { dequantizeBlocks, isBlockDtype, type WeightDtype } from './gguf_blocks.ts';

/** Values as a file stores them: little-endian, in whole blocks. */
export type StoredValues = { dtype: WeightDtype; data: Uint8Array };

/** A tensor's bytes at the alignment that typed arrays need; copies only where the file's layout forces it. */
function alignedBytes(data: Uint8Array, bytesPerElement: number): { buffer: ArrayBuffer; byteOffset: number } {
  if (data.byteOffset % bytesPerElement === 0 && data.buffer instanceof ArrayBuffer) {
    return { buffer: data.buffer, byteOffset: data.byteOffset };
  }
  return { buffer: data.slice().buffer, byteOffset: 0 };
}

/** Elements as float32; exact for all types but Q4_1, Q5_1, Q4_K and Q5_K, which round once. */
export function toFloat32({ dtype, data }: StoredValues): Float32Array<ArrayBuffer> {
  if (isBlockDtype(dtype)) return dequantizeBlocks(dtype, data);
  if (dtype === 'F32') {
    const { buffer, byteOffset } = alignedBytes(data, 4);
    return new Float32Array(buffer, byteOffset, data.byteLength / 4);
  }
  const { buffer, byteOffset } = alignedBytes(data, 2);
  const halves = new Uint16Array(buffer, byteOffset, data.byteLength / 2);
  const floats = new Float32Array(halves.length);
  if (dtype === 'BF16') {
    const words = new Uint32Array(floats.buffer);
    for (let i = 0; i < halves.length; i++) words[i] = (halves[i] as number) << 16;
  } else {
    for (let i = 0; i < halves.length; i++) floats[i] = float16ToNumber(halves[i] as number);
  }
  return floats;
}
