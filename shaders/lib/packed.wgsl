// Packed matrix (N, K) in 16-byte words: FORMAT 0: 8 values f16; 1: 16 signed bytes; 2: 32 nibbles, each less 8. Bytes and
// nibbles are times their word's f16 scale, two of which share a word of `scales`. The words of a row are dealt out to
// `segments` lanes by turns, `segmentWords` to each (zero-padded), so that neighbouring lanes read neighbouring inputs; and
// 64 / segments neighbouring rows are interleaved, so that at every step the 64 lanes of a workgroup (lane = row · segments
// + segment) load 64 neighbouring words. Written by pack.wgsl.

// Where row n begins for the lane of segment 0: its word `step · segments + segment` lies at + step · 64 + segment.
fn packed_row(n: u32, segments: u32, segmentWords: u32) -> u32 {
  let rowsPerGroup = 64u / segments;
  return (n / rowsPerGroup) * segmentWords * 64u + (n % rowsPerGroup) * segments;
}

fn packed_word(n: u32, word: u32, segments: u32, segmentWords: u32) -> u32 {
  return packed_row(n, segments, segmentWords) + (word / segments) * 64u + word % segments;
}

// Vectors of four values in a word.
fn word_vectors() -> u32 {
  return 2u << FORMAT;
}
