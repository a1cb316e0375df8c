export type MatmulShape = { rows: number; inputSize: number; outputSize: number };

/**
 * Float64 twin of shaders/matmul_rows.wgsl and shaders/matmul_tile.wgsl: y = x Wᵀ (+ bias) (+ residual).
 * W is stored as checkpoints do, one row per output.
 */
export function matmul(
  input: Float64Array, // (T, inputSize)
  weight: Float64Array, // (outputSize, inputSize)
  { rows, inputSize, outputSize }: MatmulShape,
  bias: Float64Array | null = null, // (outputSize,)
  residual: Float64Array | null = null, // (T, outputSize)
): Float64Array {
  expectLength('input', input, rows * inputSize);
  expectLength('weight', weight, outputSize * inputSize);
  if (bias !== null) expectLength('bias', bias, outputSize);
  if (residual !== null) expectLength('residual', residual, rows * outputSize);

  const output = new Float64Array(rows * outputSize); // (T, outputSize)
  const unrolledEnd = inputSize - (inputSize % 4);
  // Outputs outside, rows inside: a weight row stays in cache for all input rows.
  for (let n = 0; n < outputSize; n++) {
    const weightStart = n * inputSize;
    for (let t = 0; t < rows; t++) {
      const inputStart = t * inputSize;
      // Four chains, because one waits for the latency of every addition.
      let sum0 = 0;
      let sum1 = 0;
      let sum2 = 0;
      let sum3 = 0;
      let i = 0;
      for (; i < unrolledEnd; i += 4) {
        sum0 += input[inputStart + i]! * weight[weightStart + i]!;
        sum1 += input[inputStart + i + 1]! * weight[weightStart + i + 1]!;
        sum2 += input[inputStart + i + 2]! * weight[weightStart + i + 2]!;
        sum3 += input[inputStart + i + 3]! * weight[weightStart + i + 3]!;
      }
      for (; i < inputSize; i++) sum0 += input[inputStart + i]! * weight[weightStart + i]!;
      let sum = sum0 + sum1 + (sum2 + sum3);
      if (bias !== null) sum += bias[n]!;
      if (residual !== null) sum += residual[t * outputSize + n]!;
      output[t * outputSize + n] = sum;
    }
  }
  return output;
}

function expectLength(name: string, values: Float64Array, length: number): void {
  if (values.length !== length) throw new RangeError(`Expected ${name} of ${length} values, got ${values.length}.`);
}
