/** How weight matrices lie on the GPU; read by matmul_rows, matmul_tile and embed, written by pack. */

/** What a weight is stored as: f16, or a signed byte or nibble times an f16 scale per 32 values. */
export type WeightFormat = 'f16' | 'q8' | 'q4';

/** The override FORMAT of the shaders; a word has `1 << formatCodes[format]` pieces of 8 values. */
export const formatCodes = { f16: 0, q8: 1, q4: 2 } as const satisfies Record<WeightFormat, number>;

/**
 * A weight matrix (N, K) on the GPU, packed as `shaders/lib/packed.wgsl` describes. Pieces of 8 values of a row are dealt
 * out to `segments` lanes by turns, `segmentWords` words of 16 bytes to each, zero-padded; a row's product is summed per
 * segment, in ascending k.
 */
export type PackedMatrix = {
  buffer: GPUBuffer;
  /** One f16 per 32 values; without scales (f16) any buffer stands for it. */
  scales: GPUBuffer;
  format: WeightFormat;
  /** N */
  outputSize: number;
  /** K, a multiple of 4 */
  inputSize: number;
  segments: number;
  segmentWords: number;
};

/**
 * A matrix that one binding need not hold: parts of its rows, in order. `firstRow` is that of the part. Where rows of the
 * two halves of a matrix meet (gate and up), a part has the same rows of both, one after the other.
 */
export type SplitMatrix = readonly { firstRow: number; matrix: PackedMatrix }[];

/** Rows of each part of a matrix (N, K) whose parts take at most `partBytes`. At least one group of rows, as they are packed. */
export function partRows(
  { outputSize, inputSize }: { outputSize: number; inputSize: number },
  format: WeightFormat,
  partBytes: number,
): number[] {
  const groupBytes = packedBytes({ outputSize: 1, inputSize }, format).words;
  // Whole workgroups of matmul_rows, which takes two groups each.
  const groupRows = 2 * rowsPerGroup(segmentsOf(inputSize, format).segments);
  const most = Math.max(1, Math.floor(partBytes / (2 * groupBytes))) * groupRows;
  const counts: number[] = [];
  for (let left = outputSize; left > 0; left -= most) counts.push(Math.min(left, most));
  return counts;
}

/** The first `count` rows of a matrix, out of the same buffers: parts behind them fall away. */
export function firstRows(parts: SplitMatrix, count: number): SplitMatrix {
  return parts
    .filter(({ firstRow }) => firstRow < count)
    .map(({ firstRow, matrix }) => {
      const outputSize = Math.min(matrix.outputSize, count - firstRow);
      return { firstRow, matrix: { ...matrix, outputSize } };
    });
}

/** Lanes of every workgroup here. */
export const workgroupSize = 64;

/** Rows of a matrix that lie interleaved, and that one workgroup takes side by side. */
export const rowsPerGroup = (segments: number): number => Math.floor(workgroupSize / segments);

/** Numbers of segments that leave few lanes of a workgroup without a row. Four lanes share their scales. */
const segmentCounts = [32, 28, 20, 16, 12, 8, 4];

/** Fewest 16-byte words that make a lane worth its sum in the fold. */
const fewestWords = { f16: 6, q8: 3, q4: 1 } as const;

/**
 * Among how many lanes a row of K values is dealt out. More segments keep more lanes busy on one row, and more loads under
 * way; a number that pads by a sixteenth more than the least, or leaves a lane too few words, is not worth it. It fixes the
 * order of summation, so it depends on K and the format alone, never on the device.
 */
export function segmentsOf(inputSize: number, format: WeightFormat): { segments: number; segmentWords: number } {
  const words = Math.ceil(inputSize / (8 << formatCodes[format]));
  const wordsOf = (segments: number) => Math.ceil(words / segments);
  const least = 4 * wordsOf(4);
  const isGood = (segments: number) =>
    wordsOf(segments) >= fewestWords[format] && segments * wordsOf(segments) <= least * 1.0625;
  const segments = segmentCounts.find(isGood) ?? 4;
  return { segments, segmentWords: wordsOf(segments) };
}

/** Bytes of a packed matrix: of its words, and of the scales of these. */
export function packedBytes(
  { outputSize, inputSize }: { outputSize: number; inputSize: number },
  format: WeightFormat,
): { words: number; scales: number } {
  const { segments, segmentWords } = segmentsOf(inputSize, format);
  const groupRows = rowsPerGroup(segments);
  const words = Math.ceil(outputSize / groupRows) * segmentWords * groupRows * segments * 16;
  // 16 bytes are 8 << format values, and a scale takes 2 bytes per 32 values.
  return { words, scales: format === 'f16' ? 0 : (words / 16) * (format === 'q8' ? 1 : 2) };
}
