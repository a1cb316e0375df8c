import type { HeadShape } from './rope_kv.ts';

/**
 * Float64 twin of shaders/attention.wgsl: causal softmax attention with grouped queries. A row at absolute position p
 * sees keys and values 0..p, or the last `window` of them; query heads h share the key/value head floor(h / (H / K)).
 */
export function attention(
  q: Float64Array, // (T, H, headDim)
  keys: Float64Array, // (at least max(positions) + 1, K, headDim), indexed by absolute position
  values: Float64Array, // same shape as keys
  positions: readonly number[], // (T,)
  { headCount, kvHeadCount, headDim }: HeadShape,
  { scale = 1 / Math.sqrt(headDim), window = null }: { scale?: number; window?: number | null } = {},
): Float64Array {
  const rows = positions.length;
  const kvSize = kvHeadCount * headDim;
  const groupSize = headCount / kvHeadCount;
  const output = new Float64Array(rows * headCount * headDim); // (T, H, headDim)
  for (let t = 0; t < rows; t++) {
    const keyCount = positions[t]! + 1;
    if (keyCount * kvSize > keys.length || keyCount * kvSize > values.length) {
      throw new RangeError(
        `Row ${t} needs ${keyCount} cached positions, got ${Math.min(keys.length, values.length) / kvSize}.`,
      );
    }
    const scores = new Float64Array(keyCount);
    const first = window === null ? 0 : Math.max(0, keyCount - window);
    for (let head = 0; head < headCount; head++) {
      const queryStart = (t * headCount + head) * headDim;
      const kvHeadStart = Math.floor(head / groupSize) * headDim;
      let maxScore = -Infinity;
      for (let j = first; j < keyCount; j++) {
        const keyStart = j * kvSize + kvHeadStart;
        let dot = 0;
        for (let i = 0; i < headDim; i++) dot += q[queryStart + i]! * keys[keyStart + i]!;
        scores[j] = dot * scale;
        if (scores[j]! > maxScore) maxScore = scores[j]!;
      }
      let sum = 0;
      for (let j = first; j < keyCount; j++) {
        scores[j] = Math.exp(scores[j]! - maxScore);
        sum += scores[j]!;
      }
      for (let j = first; j < keyCount; j++) {
        const probability = scores[j]! / sum;
        const valueStart = j * kvSize + kvHeadStart;
        for (let i = 0; i < headDim; i++) output[queryStart + i]! += probability * values[valueStart + i]!;
      }
    }
  }
  return output;
}
