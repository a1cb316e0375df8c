// Packed matrix (N, K) in 16-byte words: FORMAT 0: 8 values f16; 1: 16 bytes, each more by 128; 2: 32 nibbles, each more by 8.
// The row is cut into pieces of 8 values, which are dealt out to `segments` lanes (a multiple of 4) by turns; a word holds
// the next 1 << FORMAT pieces of its lane, and `segmentWords` words all of them (zero-padded). So in every format
// neighbouring lanes read neighbouring inputs. 64 / segments neighbouring rows are interleaved, so that at every step the
// lanes of a workgroup (lane = row · segments + segment) load neighbouring words. Bytes and nibbles are times an f16 scale
// per 32 values of a row: the pieces of four lanes, whose scales lie together in `scales`. Written by pack.wgsl.

// Where row n begins for the lane of segment 0. The words of its segments lie side by side there.
fn packed_row(n: u32, segments: u32, segmentWords: u32) -> u32 {
  let rowsPerGroup = 64u / segments;
  return ((n / rowsPerGroup) * segmentWords * rowsPerGroup + n % rowsPerGroup) * segments;
}

// From a word of a lane to its next one.
fn packed_stride(segments: u32) -> u32 {
  return (64u / segments) * segments;
}

// Pieces in a word.
fn word_pieces() -> u32 {
  return 1u << FORMAT;
}

// Vector of four inputs with which piece `piece` of a segment begins.
fn piece_vector(piece: u32, segment: u32, segments: u32) -> u32 {
  return (piece * segments + segment) * 2u;
}
