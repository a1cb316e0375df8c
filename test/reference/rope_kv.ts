export type HeadShape = { headCount: number; kvHeadCount: number; headDim: number };

/**
 * Float64 twin of shaders/rope_kv.wgsl: splits the fused projection and rotates queries and keys by their absolute
 * position. Hugging Face's Llama layout (`rotate_half`): element i pairs with i + headDim / 2, both turned by
 * position · theta^(−2i / headDim). Values pass through.
 */
export function ropeKv(
  qkv: Float64Array, // (T, (H + 2K) · headDim): all query heads, then key heads, then value heads
  positions: readonly number[], // (T,)
  { headCount, kvHeadCount, headDim }: HeadShape,
  theta: number,
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
  const half = headDim / 2;
  for (let t = 0; t < rows; t++) {
    const rowStart = t * rowSize;
    q.set(qkv.subarray(rowStart, rowStart + querySize), t * querySize);
    k.set(qkv.subarray(rowStart + querySize, rowStart + querySize + kvSize), t * kvSize);
    v.set(qkv.subarray(rowStart + querySize + kvSize, rowStart + rowSize), t * kvSize);
    for (let i = 0; i < half; i++) {
      const angle = positions[t]! * theta ** ((-2 * i) / headDim);
      const cos = Math.cos(angle);
      const sin = Math.sin(angle);
      for (let head = 0; head < headCount; head++) rotate(q, t * querySize + head * headDim + i, half, cos, sin);
      for (let head = 0; head < kvHeadCount; head++) rotate(k, t * kvSize + head * headDim + i, half, cos, sin);
    }
  }
  return { q, k, v };
}

function rotate(values: Float64Array, index: number, half: number, cos: number, sin: number): void {
  const first = values[index]!;
  const second = values[index + half]!;
  values[index] = first * cos - second * sin;
  values[index + half] = second * cos + first * sin;
}
