/** Float64 twin of the RMS norms: x / sqrt(mean(x²) + eps) · weight, row by row. */
export function rmsNorm(
  input: Float64Array, // (T, D)
  weight: Float64Array, // (D,)
  eps: number,
): Float64Array {
  const size = weight.length;
  const output = new Float64Array(input.length); // (T, D)
  for (let start = 0; start < input.length; start += size) {
    let sumOfSquares = 0;
    for (let i = 0; i < size; i++) sumOfSquares += input[start + i]! * input[start + i]!;
    const scale = 1 / Math.sqrt(sumOfSquares / size + eps);
    for (let i = 0; i < size; i++) output[start + i] = input[start + i]! * scale * weight[i]!;
  }
  return output;
}
