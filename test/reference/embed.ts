/** Float64 twin of shaders/embed.wgsl: one row of the embedding per token, times `scale`. */
export function embed(
  tokens: readonly number[], // (T,)
  embedding: Float64Array, // (V, D)
  hiddenSize: number,
  scale = 1,
): Float64Array {
  const vocabSize = embedding.length / hiddenSize;
  const output = new Float64Array(tokens.length * hiddenSize); // (T, D)
  tokens.forEach((token, row) => {
    if (!Number.isInteger(token) || token < 0 || token >= vocabSize) {
      throw new RangeError(`Expected token ids in 0..${vocabSize - 1}, got ${token} at row ${row}.`);
    }
    output.set(embedding.subarray(token * hiddenSize, (token + 1) * hiddenSize), row * hiddenSize);
  });
  return scale === 1 ? output : output.map((value) => value * scale);
}
