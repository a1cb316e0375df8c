// Packed matrix (N, K), f16 pairs in 16-byte words of 8 values. A row is cut into `segments` runs of `segmentWords`
// consecutive words (zero-padded), and 64 / segments neighbouring rows are interleaved, so that at every step the 64
// lanes of a workgroup (lane = row · segments + segment) load 64 neighbouring words. Packed by src/model/weights.ts.
fn packed_word(n: u32, word: u32, segments: u32, segmentWords: u32) -> u32 {
  let rowsPerGroup = 64u / segments;
  let group = n / rowsPerGroup;
  let segment = word / segmentWords;
  let step = word - segment * segmentWords;
  return ((group * segmentWords + step) * rowsPerGroup + n % rowsPerGroup) * segments + segment;
}
