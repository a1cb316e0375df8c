// Packed matrix (N, K) in 16-byte words: FORMAT 0: 8 values f16; 1: 16 signed bytes; 2: 32 nibbles, each less 8. Bytes and
// nibbles are times their word's f16 scale, two of which share a word of `scales`. A row is cut into `segments` runs of
// `segmentWords` consecutive words (zero-padded), and 64 / segments neighbouring rows are interleaved, so that at every
// step the 64 lanes of a workgroup (lane = row · segments + segment) load 64 neighbouring words. Written by pack.wgsl.
fn packed_word(n: u32, word: u32, segments: u32, segmentWords: u32) -> u32 {
  let rowsPerGroup = 64u / segments;
  let group = n / rowsPerGroup;
  let segment = word / segmentWords;
  let step = word - segment * segmentWords;
  return ((group * segmentWords + step) * rowsPerGroup + n % rowsPerGroup) * segments + segment;
}

// Vectors of four values in a word.
fn word_vectors() -> u32 {
  return 2u << FORMAT;
}
