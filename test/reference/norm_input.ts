import { rmsNorm } from './rms_norm.ts';

/**
 * Float64 twin of shaders/norm_input.wgsl: of each row of the residual stream, what a matmul behind an RMS norm reads.
 * `scaled` · `inverse` is the normalised row.
 */
export function normInput(
  hidden: Float64Array, // (T, D)
  weight: Float64Array, // (D,)
  squareGroup: number,
  eps: number,
): { scaled: Float64Array; squares: number[]; inverse: number }[] {
  const size = weight.length;
  return Array.from({ length: hidden.length / size }, (_, t) => {
    const row = hidden.subarray(t * size, (t + 1) * size);
    const squares: number[] = [];
    row.forEach((x, i) => {
      const group = Math.floor(i / squareGroup);
      squares[group] = (squares[group] ?? 0) + x * x;
    });
    // The norm of a row by weights of 1, over the row itself.
    const largest = row.reduce((most, x, i) => (Math.abs(x) > Math.abs(row[most]!) ? i : most), 0);
    const inverse = rmsNorm(row, new Float64Array(size).fill(1), eps)[largest]! / row[largest]!;
    return { scaled: row.map((x, i) => x * weight[i]!), squares, inverse };
  });
}
