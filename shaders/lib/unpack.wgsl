// Reading of lib/packed.wgsl; expects `weight` and `scales`.
fn word_scale(index: u32) -> f32 {
  if (FORMAT == 0u) {
    return 1.0;
  }
  let pair = unpack2x16float(scales[index >> 1u]);
  return select(pair.x, pair.y, (index & 1u) == 1u);
}

// Values 4v..4v + 3 of a word.
fn weight_vector(packed: vec4<u32>, scale: f32, v: u32) -> vec4<f32> {
  if (FORMAT == 1u) {
    let bytes = bitcast<i32>(packed[v]);
    return scale * vec4<f32>(
      f32(extractBits(bytes, 0u, 8u)),
      f32(extractBits(bytes, 8u, 8u)),
      f32(extractBits(bytes, 16u, 8u)),
      f32(extractBits(bytes, 24u, 8u)),
    );
  }
  if (FORMAT == 2u) {
    let nibbles = (vec4(packed[v >> 1u] >> ((v & 1u) << 4u)) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u);
    return scale * (vec4<f32>(nibbles) - 8.0);
  }
  let pair = select(packed.xy, packed.zw, v == 1u);
  return vec4(unpack2x16float(pair.x), unpack2x16float(pair.y));
}
