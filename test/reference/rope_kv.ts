import type { RopeConfig } from '../../src/model/rope.ts';

export type HeadShape = { headCount: number; kvHeadCount: number; headDim: number };

/** RMS norm of queries and keys before the rotation. */
export type QkNorm = {
  /** `head`: each head by itself; `full`: all heads together. */
  kind: 'head' | 'full';
  queryWeight: Float64Array; // (headDim,) or (H · headDim,)
  keyWeight: Float64Array; // (headDim,) or (K · headDim,)
  eps: number;
};

export type RopeOptions = { rope: RopeConfig; qkNorm?: QkNorm | null };

/** Plain rotation of all dimensions. */
export const plainRope = (headDim: number, theta: number): RopeConfig => ({
  theta,
  rotaryDim: headDim,
  scaling: { type: 'none' },
});

/**
 * Float64 twin of shaders/rope_kv.wgsl: splits the fused projection, normalises and rotates queries and keys by their
 * absolute position. Hugging Face's layout (`rotate_half`): element i pairs with i + rotaryDim / 2, both turned by
 * position · frequency(i); elements from rotaryDim on pass. Values pass through.
 */
export function ropeKv(
  qkv: Float64Array, // (T, (H + 2K) · headDim): all query heads, then key heads, then value heads
  positions: readonly number[], // (T,)
  { headCount, kvHeadCount, headDim }: HeadShape,
  { rope, qkNorm = null }: RopeOptions,
): { q: Float64Array; k: Float64Array; v: Float64Array } {
  const rows = positions.length;
  const querySize = headCount * headDim;
  const kvSize = kvHeadCount * headDim;
  const rowSize = querySize + 2 * kvSize;
  if (qkv.length !== rows * rowSize) {
    throw new RangeError(`Expected qkv of ${rows} × ${rowSize} values, got ${qkv.length}.`);
  }
  const q = new Float64Array(rows * querySize); // (T, H, headDim)
  const k = new Float64Array(rows * kvSize); // (T, K, headDim)
  const v = new Float64Array(rows * kvSize); // (T, K, headDim)
  for (let t = 0; t < rows; t++) {
    const rowStart = t * rowSize;
    q.set(qkv.subarray(rowStart, rowStart + querySize), t * querySize);
    k.set(qkv.subarray(rowStart + querySize, rowStart + querySize + kvSize), t * kvSize);
    v.set(qkv.subarray(rowStart + querySize + kvSize, rowStart + rowSize), t * kvSize);
    if (qkNorm !== null) {
      normalise(q.subarray(t * querySize, (t + 1) * querySize), qkNorm.queryWeight, qkNorm.eps);
      normalise(k.subarray(t * kvSize, (t + 1) * kvSize), qkNorm.keyWeight, qkNorm.eps);
    }
    for (let i = 0; i < rope.rotaryDim / 2; i++) {
      const angle = positions[t]! * frequency(rope, i);
      const scale = rope.scaling.type === 'longrope' ? rope.scaling.attentionFactor : 1;
      const cos = Math.cos(angle) * scale;
      const sin = Math.sin(angle) * scale;
      const half = rope.rotaryDim / 2;
      for (let head = 0; head < headCount; head++) rotate(q, t * querySize + head * headDim + i, half, cos, sin);
      for (let head = 0; head < kvHeadCount; head++) rotate(k, t * kvSize + head * headDim + i, half, cos, sin);
    }
  }
  return { q, k, v };
}

/** In place, in groups as long as the weight: one head each, or all at once. */
function normalise(values: Float64Array, weight: Float64Array, eps: number): void {
  for (let start = 0; start < values.length; start += weight.length) {
    const group = values.subarray(start, start + weight.length);
    const scale = 1 / Math.sqrt(group.reduce((sum, x) => sum + x * x, 0) / group.length + eps);
    group.forEach((x, i) => {
      group[i] = x * scale * weight[i]!;
    });
  }
}

function frequency({ theta, rotaryDim, scaling }: RopeConfig, pair: number): number {
  const plain = theta ** ((-2 * pair) / rotaryDim);
  if (scaling.type === 'linear') return plain / scaling.factor;
  if (scaling.type === 'longrope') return plain / scaling.factors[pair]!;
  if (scaling.type === 'llama3') {
    // As published with Llama 3.1: in terms of wavelengths.
    const wavelength = (2 * Math.PI) / plain;
    const { factor, lowFreqFactor, highFreqFactor, originalContextLength } = scaling;
    if (wavelength < originalContextLength / highFreqFactor) return plain;
    if (wavelength > originalContextLength / lowFreqFactor) return plain / factor;
    const smooth = (originalContextLength / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return ((1 - smooth) * plain) / factor + smooth * plain;
  }
  return plain;
}

function rotate(values: Float64Array, index: number, half: number, cos: number, sin: number): void {
  const first = values[index]!;
  const second = values[index + half]!;
  values[index] = first * cos - second * sin;
  values[index + half] = second * cos + first * sin;
}
