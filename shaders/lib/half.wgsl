// Keys and values in the cache: f16, two to a word. What f16 cannot hold becomes its largest value; what is not finite
// becomes NaN, so that it shows in the logits.
fn not_finite_half(x: f32) -> u32 {
  return select(0u, 0x7e00u, (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u);
}

fn pack_halves(x: vec4<f32>) -> vec2<u32> {
  let held = clamp(x, vec4(-65504.0), vec4(65504.0));
  return vec2(
    pack2x16float(held.xy) | not_finite_half(x.x) | (not_finite_half(x.y) << 16u),
    pack2x16float(held.zw) | not_finite_half(x.z) | (not_finite_half(x.w) << 16u),
  );
}

fn unpack_halves(packed: vec2<u32>) -> vec4<f32> {
  return vec4(unpack2x16float(packed.x), unpack2x16float(packed.y));
}
