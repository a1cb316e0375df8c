import { createStorageFrom } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';

/**
 * A weight matrix (N, K) on the GPU: f16, packed as `shaders/lib/packed.wgsl` describes. Each row is cut into `segments`
 * runs of `segmentWords` 16-byte words (8 values), zero-padded; a row's product is summed per segment, in ascending k.
 */
export type PackedMatrix = {
  buffer: GPUBuffer;
  /** N */
  outputSize: number;
  /** K, a multiple of 4 */
  inputSize: number;
  segments: number;
  segmentWords: number;
};

/** Lanes of every workgroup here. Rows per group × segments = 64. */
export const workgroupSize = 64;

/**
 * How a row of K values is cut. More segments keep more lanes busy on one row; a cut that would pad by more than an
 * eighth, or leave a lane fewer than 8 words, is not worth it. The cut fixes the order of summation, so it depends on K alone, never on the device.
 */
export function segmentsOf(inputSize: number): { segments: number; segmentWords: number } {
  const words = Math.ceil(inputSize / 8);
  for (const segments of [16, 8, 4]) {
    const segmentWords = Math.ceil(words / segments);
    if (segmentWords >= 8 && segmentWords * segments <= words * 1.125) return { segments, segmentWords };
  }
  return { segments: 4, segmentWords: Math.ceil(words / 4) };
}

/** Interleaves f16 bits of rows (N, K), given as one matrix or several stacked along N (q‖k‖v, gate‖up). */
export function packRows(parts: readonly Uint16Array[], inputSize: number): Uint16Array<ArrayBuffer> {
  const { segments, segmentWords } = segmentsOf(inputSize);
  const outputSize = parts.reduce((sum, part) => sum + part.length / inputSize, 0);
  const rowsPerGroup = workgroupSize / segments;
  const groups = Math.ceil(outputSize / rowsPerGroup);
  const packed = new Uint16Array(groups * segmentWords * workgroupSize * 8);
  let n = 0;
  for (const part of parts) {
    for (let row = 0; row < part.length; row += inputSize, n++) {
      const groupStart = Math.floor(n / rowsPerGroup) * segmentWords;
      const lane = (n % rowsPerGroup) * segments;
      for (let k = 0, segment = 0; k < inputSize; segment++) {
        for (let step = 0; step < segmentWords && k < inputSize; step++, k += 8) {
          const word = (groupStart + step) * workgroupSize + lane + segment;
          packed.set(part.subarray(row + k, row + Math.min(k + 8, inputSize)), word * 8);
        }
      }
    }
  }
  return packed;
}

/** Packs and uploads. */
export function uploadPacked(gpu: Gpu, label: string, parts: readonly Uint16Array[], inputSize: number): PackedMatrix {
  const outputSize = parts.reduce((sum, part) => sum + part.length / inputSize, 0);
  const buffer = createStorageFrom(gpu, label, packRows(parts, inputSize));
  return { buffer, outputSize, inputSize, ...segmentsOf(inputSize) };
}
