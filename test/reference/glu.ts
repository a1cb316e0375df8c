/**
 * Float64 twin of what shaders/matmul_rows.wgsl and shaders/matmul_tile.wgsl make of gate and up: activation(gate) · up.
 * silu(x) = x / (1 + e^−x); gelu in its tanh form.
 */
export function glu(
  gateUp: Float64Array, // (T, 2 · ffnSize): a row holds all of gate, then all of up
  ffnSize: number,
  activation: 'silu' | 'gelu_tanh' = 'silu',
): Float64Array {
  if (gateUp.length % (2 * ffnSize) !== 0) {
    throw new RangeError(`Expected rows of ${2 * ffnSize} values, got ${gateUp.length} values.`);
  }
  const activate = activation === 'silu' ? silu : geluTanh;
  const rows = gateUp.length / (2 * ffnSize);
  const output = new Float64Array(rows * ffnSize); // (T, ffnSize)
  for (let t = 0; t < rows; t++) {
    for (let i = 0; i < ffnSize; i++) {
      const gate = gateUp[t * 2 * ffnSize + i]!;
      const up = gateUp[t * 2 * ffnSize + ffnSize + i]!;
      output[t * ffnSize + i] = activate(gate) * up;
    }
  }
  return output;
}

const silu = (x: number) => x / (1 + Math.exp(-x));
const geluTanh = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
