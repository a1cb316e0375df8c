/** Float64 twin of shaders/silu_mul.wgsl: silu(gate) · up, where silu(x) = x / (1 + e^−x). */
export function siluMul(
  gateUp: Float64Array, // (T, 2 · ffnSize): a row holds all of gate, then all of up
  ffnSize: number,
): Float64Array {
  if (gateUp.length % (2 * ffnSize) !== 0) {
    throw new RangeError(`Expected rows of ${2 * ffnSize} values, got ${gateUp.length} values.`);
  }
  const rows = gateUp.length / (2 * ffnSize);
  const output = new Float64Array(rows * ffnSize); // (T, ffnSize)
  for (let t = 0; t < rows; t++) {
    for (let i = 0; i < ffnSize; i++) {
      const gate = gateUp[t * 2 * ffnSize + i]!;
      const up = gateUp[t * 2 * ffnSize + ffnSize + i]!;
      output[t * ffnSize + i] = (gate / (1 + Math.exp(-gate))) * up;
    }
  }
  return output;
}
