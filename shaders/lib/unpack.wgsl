// Reading of lib/packed.wgsl; expects `scales`. A word is read from its front: its first piece, then turned to the next one,
// because to index a vector by a variable can cost a round trip to memory.
struct Piece {
  low: vec4<f32>,
  high: vec4<f32>,
}

// Scales of a word's pieces, first to last.
fn word_scales(index: u32) -> vec4<f32> {
  if (FORMAT == 1u) {
    let pair = unpack2x16float(scales[index / 4u]);
    return vec4(pair, pair);
  }
  if (FORMAT == 2u) {
    let first = index / 4u * 2u;
    return vec4(unpack2x16float(scales[first]), unpack2x16float(scales[first + 1u]));
  }
  return vec4(1.0);
}

// A float's fraction holds a small integer as it is, above a power of two that is then taken away: cheaper than a
// conversion, and exact. The power is such that the place where the integer stands is worth 1.
fn four_bytes(bytes: u32) -> vec4<f32> {
  let high = bytes >> 16u;
  let fractions = vec4(bytes, bytes, high, high) & vec4(0xffu, 0xff00u, 0xffu, 0xff00u);
  return bitcast<vec4<f32>>(fractions | vec4(0x4b000000u, 0x47000000u, 0x4b000000u, 0x47000000u))
    - vec4(8388736.0, 32896.0, 8388736.0, 32896.0);
}

fn four_nibbles(nibbles: u32) -> vec4<f32> {
  let fractions = vec4(nibbles) & vec4(0xfu, 0xf0u, 0xf00u, 0xf000u);
  return bitcast<vec4<f32>>(fractions | vec4(0x4b000000u, 0x49000000u, 0x47000000u, 0x45000000u))
    - vec4(8388616.0, 524296.0, 32776.0, 2056.0);
}

// The first piece of a word.
fn first_piece(packed: vec4<u32>, scale: f32) -> Piece {
  if (FORMAT == 1u) {
    return Piece(scale * four_bytes(packed.x), scale * four_bytes(packed.y));
  }
  if (FORMAT == 2u) {
    return Piece(scale * four_nibbles(packed.x), scale * four_nibbles(packed.x >> 16u));
  }
  return Piece(
    vec4(unpack2x16float(packed.x), unpack2x16float(packed.y)),
    vec4(unpack2x16float(packed.z), unpack2x16float(packed.w)),
  );
}

// Turns a word so that its next piece comes first.
fn next_piece(packed: vec4<u32>) -> vec4<u32> {
  if (FORMAT == 1u) {
    return packed.zwxy;
  }
  return packed.yzwx;
}
