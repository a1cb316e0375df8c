import type { Tensor } from './safetensors.ts';

/** A tensor's bytes at the alignment that typed arrays need; copies only where the file's layout forces it. */
function alignedBytes(data: Uint8Array, bytesPerElement: number): { buffer: ArrayBuffer; byteOffset: number } {
  if (data.byteOffset % bytesPerElement === 0 && data.buffer instanceof ArrayBuffer) {
    return { buffer: data.buffer, byteOffset: data.byteOffset };
  }
  return { buffer: data.slice().buffer, byteOffset: 0 };
}

/** Elements as float32; exact for all three types. */
export function toFloat32({ dtype, data }: Tensor): Float32Array<ArrayBuffer> {
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

function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
