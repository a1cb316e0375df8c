/** How weight matrices lie on the GPU; read by matmul_rows, matmul_tile and embed, written by pack. */

/** What a weight is stored as: f16, or a signed byte or nibble times an f16 scale per 32 values. */
export type WeightFormat = 'f16' | 'q8' | 'q4';

/** The override FORMAT of the shaders; a word has `8 << formatCodes[format]` values. */
export const formatCodes = { f16: 0, q8: 1, q4: 2 } as const satisfies Record<WeightFormat, number>;

/**
 * A weight matrix (N, K) on the GPU, packed as `shaders/lib/packed.wgsl` describes. The 16-byte words of a row are dealt
 * out to `segments` lanes by turns, `segmentWords` to each, zero-padded; a row's product is summed per segment, in
 * ascending k.
 */
export type PackedMatrix = {
  buffer: GPUBuffer;
  /** One f16 per word; without scales (f16) any buffer stands for it. */
  scales: GPUBuffer;
  format: WeightFormat;
  /** N */
  outputSize: number;
  /** K, a multiple of 4 */
  inputSize: number;
  segments: number;
  segmentWords: number;
};

/** A matrix that one binding need not hold: parts of its rows, in order. `firstRow` is that of the part. */
export type SplitMatrix = readonly { firstRow: number; matrix: PackedMatrix }[];

/** Rows of each part of a matrix (N, K) whose parts take at most `partBytes`. At least one group of rows, as they are packed. */
export function partRows(
  { outputSize, inputSize }: { outputSize: number; inputSize: number },
  format: WeightFormat,
  partBytes: number,
): number[] {
  const groupBytes = packedWords({ outputSize: 1, inputSize }, format) * 16;
  const groupRows = workgroupSize / segmentsOf(inputSize, format).segments;
  const most = Math.max(1, Math.floor(partBytes / groupBytes)) * groupRows;
  const counts: number[] = [];
  for (let left = outputSize; left > 0; left -= most) counts.push(Math.min(left, most));
  return counts;
}

/** Lanes of every workgroup here. Rows per group × segments = 64. */
export const workgroupSize = 64;

/** Fewest 16-byte words that make a lane worth its workgroup. */
const fewestWords = { f16: 8, q8: 4, q4: 2 } as const;

/**
 * Among how many lanes a row of K values is dealt out. More segments keep more lanes busy on one row; a number that would
 * pad by more than an eighth, or leave a lane too few words, is not worth it. It fixes the order of summation, so it depends on K and
 * the format alone, never on the device.
 */
export function segmentsOf(inputSize: number, format: WeightFormat): { segments: number; segmentWords: number } {
  const words = Math.ceil(inputSize / (8 << formatCodes[format]));
  for (const segments of [16, 8, 4]) {
    const segmentWords = Math.ceil(words / segments);
    if (segmentWords >= fewestWords[format] && segmentWords * segments <= words * 1.125) {
      return { segments, segmentWords };
    }
  }
  return { segments: 4, segmentWords: Math.ceil(words / 4) };
}

/** Words of a packed matrix, of 16 bytes each. */
export function packedWords(
  { outputSize, inputSize }: { outputSize: number; inputSize: number },
  format: WeightFormat,
): number {
  const { segments, segmentWords } = segmentsOf(inputSize, format);
  return Math.ceil(outputSize / (workgroupSize / segments)) * segmentWords * workgroupSize;
}
