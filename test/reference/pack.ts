/** Twin of shaders/pack.wgsl and of lib/packed.wgsl: quantisation per block of 32 values, and where a packed value lies. */
import { formatCodes, type PackedMatrix, rowsPerGroup, type WeightFormat } from '../../src/kernels/packed.ts';
import { decodeFloat16, encodeFloat16, roundToFloat16 } from './float_formats.ts';

const blockSize = 32;

/**
 * What a matrix (N, K) is after packing: each row in blocks of 32 along K, as in llama.cpp's Q8_0 and Q4_0, but for ties,
 * which go to the greater quotient.
 */
export function quantise(values: Float64Array, inputSize: number, format: WeightFormat): Float64Array {
  if (format === 'f16') return roundToFloat16(values);
  const output = new Float64Array(values.length);
  for (let row = 0; row < values.length; row += inputSize) {
    for (let start = 0; start < inputSize; start += blockSize) {
      const end = Math.min(start + blockSize, inputSize);
      const block = values.subarray(row + start, row + end);
      const extreme = block.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
      const scale = decodeFloat16(
        encodeFloat16(Math.fround(extreme * (format === 'q8' ? Math.fround(1 / 127) : -1 / 8))),
      );
      const magnitude = format === 'q8' ? Math.abs(scale) : scale;
      const [least, most] = format === 'q8' ? [-127, 127] : [-8, 7];
      block.forEach((value, i) => {
        const q = magnitude === 0 ? 0 : Math.floor(value / magnitude + 0.5);
        output[row + start + i] = Math.max(least, Math.min(most, q)) * magnitude;
      });
    }
  }
  return output;
}

/** Value (n, k) of a matrix as it lies in its buffers. */
export function readPacked(
  { format, segments, segmentWords }: Pick<PackedMatrix, 'format' | 'segments' | 'segmentWords'>,
  words: Uint32Array, // four per packed word
  scales: Uint32Array, // two f16 each
  n: number,
  k: number,
): number {
  const pieces = 1 << formatCodes[format]; // of 8 values, in a word
  const groupRows = rowsPerGroup(segments);
  const piece = Math.floor(k / 8);
  const [own, segment] = [Math.floor(piece / segments), piece % segments]; // of the segment's pieces
  const lane = (n % groupRows) * segments + segment;
  const step = Math.floor(n / groupRows) * segmentWords + Math.floor(own / pieces);
  const index = step * groupRows * segments + lane;
  const bits = (size: number) => {
    const first = ((own % pieces) * 8 + (k % 8)) * size;
    return (words[index * 4 + Math.floor(first / 32)]! >>> (first % 32)) & (2 ** size - 1);
  };
  if (format === 'f16') return decodeFloat16(bits(16));
  // Four lanes have the scales of their pieces together.
  const half = Math.floor(index / 4) * pieces + (own % pieces);
  const scale = decodeFloat16((scales[half >> 1]! >>> ((half & 1) * 16)) & 0xffff);
  return (format === 'q8' ? bits(8) - 128 : bits(4) - 8) * scale;
}
