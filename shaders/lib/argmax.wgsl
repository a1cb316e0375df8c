// Shared by argmax.wgsl and argmax_fold.wgsl.
const LOWEST = -3.4028234e38;

// By the exponent bits: compilers may assume that no NaN exists and fold `x != x` away.
fn is_finite(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

fn better(value: f32, id: u32, otherValue: f32, otherId: u32) -> bool {
  return value > otherValue || (value == otherValue && id < otherId);
}
