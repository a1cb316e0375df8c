/** Twin of shaders/pack.wgsl and of lib/packed.wgsl: quantisation per block of 32 values, and where a packed value lies. */
import { formatCodes, type PackedMatrix, type WeightFormat } from '../../src/kernels/packed.ts';
import { decodeFloat16, encodeFloat16, roundToFloat16 } from './float_formats.ts';

const blockSize = 32;

/** What a matrix (N, K) is after packing: each row in blocks of 32 along K, as in llama.cpp's Q8_0 and Q4_0. */
export function quantise(values: Float64Array, inputSize: number, format: WeightFormat): Float64Array {
  if (format === 'f16') return roundToFloat16(values);
  const output = new Float64Array(values.length);
  for (let row = 0; row < values.length; row += inputSize) {
    for (let start = 0; start < inputSize; start += blockSize) {
      const end = Math.min(start + blockSize, inputSize);
      const block = values.subarray(row + start, row + end);
      const extreme = block.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
      const scale = decodeFloat16(encodeFloat16(Math.fround(extreme / (format === 'q8' ? 127 : -8))));
      const magnitude = format === 'q8' ? Math.abs(scale) : scale;
      block.forEach((value, i) => {
        // The products are those of float32, which decide ties.
        const steps = magnitude === 0 ? 0 : Math.fround(value * Math.fround(1 / magnitude));
        const q =
          format === 'q8'
            ? Math.max(-127, Math.min(127, roundHalfEven(steps)))
            : Math.max(0, Math.min(15, Math.floor(Math.fround(steps + 8.5)))) - 8;
        output[row + start + i] = q * magnitude;
      });
    }
  }
  return output;
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Value (n, k) of a matrix as it lies in its buffers. */
export function readPacked(
  { format, segments, segmentWords }: Pick<PackedMatrix, 'format' | 'segments' | 'segmentWords'>,
  words: Uint32Array, // four per packed word
  scales: Uint32Array, // two f16 each
  n: number,
  k: number,
): number {
  const valuesPerWord = 8 << formatCodes[format];
  const rowsPerGroup = 64 / segments;
  const word = Math.floor(k / valuesPerWord);
  const lane = (n % rowsPerGroup) * segments + (word % segments);
  const index = (Math.floor(n / rowsPerGroup) * segmentWords + Math.floor(word / segments)) * 64 + lane;
  const bits = (size: number) => {
    const first = (k % valuesPerWord) * size;
    return (words[index * 4 + Math.floor(first / 32)]! >>> (first % 32)) & (2 ** size - 1);
  };
  if (format === 'f16') return decodeFloat16(bits(16));
  const scale = decodeFloat16((scales[index >> 1]! >>> ((index & 1) * 16)) & 0xffff);
  return format === 'q8' ? ((bits(8) << 24) >> 24) * scale : (bits(4) - 8) * scale;
}
