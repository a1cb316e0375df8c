import { ModelFormatError } from '../errors.ts';
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

/**
 * Elements as float16 bits, which the matmul kernels read. F16 is taken as it is; BF16 and F32 are rounded to nearest even.
 * @throws ModelFormatError naming the tensor if a value is too large for float16 (±65,504) or not finite.
 */
export function toFloat16Bits(tensor: Tensor, name: string, file: string): Uint16Array<ArrayBuffer> {
  if (tensor.dtype === 'F16') {
    const { buffer, byteOffset } = alignedBytes(tensor.data, 2);
    return new Uint16Array(buffer, byteOffset, tensor.data.byteLength / 2);
  }
  const floats = toFloat32(tensor);
  const words = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const halves = new Uint16Array(floats.length);
  for (let i = 0; i < words.length; i++) {
    const half = float32BitsToFloat16(words[i] as number);
    if ((half & 0x7c00) === 0x7c00) {
      throw new ModelFormatError(
        `Expected ${file}, tensor ${name} to fit in float16 (±65,504), got ${floats[i]} at element ${i}. ` +
          'The file may be damaged; otherwise this model needs weights of a wider type than is supported.',
      );
    }
    halves[i] = half;
  }
  return halves;
}

/** Round to nearest, ties to even. */
function float32BitsToFloat16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 2^16 and up, infinity, NaN
  if (magnitude >= 0x38800000) {
    // Normal: drop 13 bits of the fraction. A carry may run into the exponent, up to infinity: that is correct rounding.
    const rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1);
    return sign | (rounded >>> 13);
  }
  if (magnitude < 0x33000000) return sign; // below half of the smallest subnormal
  const exponent = magnitude >>> 23;
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - exponent; // 14 to 24
  const half = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return sign | (half + (rest > tie || (rest === tie && (half & 1) === 1) ? 1 : 0));
}
