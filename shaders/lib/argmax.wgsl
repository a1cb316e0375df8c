// Shared by argmax.wgsl and argmax_fold.wgsl.
const LOWEST = -3.4028234e38;

// By the exponent bits: compilers may assume that no NaN exists and fold `x != x` away.
fn is_finite(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

fn better(value: f32, id: u32, otherValue: f32, otherId: u32) -> bool {
  return value > otherValue || (value == otherValue && id < otherId);
}

var<workgroup> bestValue: array<f32, 64>;
var<workgroup> bestId: array<u32, 64>;

// Leaves the best of the 64 lanes' candidates in bestValue[0], bestId[0].
fn fold_best(lane: u32, value: f32, id: u32) {
  bestValue[lane] = value;
  bestId[lane] = id;
  workgroupBarrier();
  for (var offset = 32u; offset > 0u; offset >>= 1u) {
    if (lane < offset && better(bestValue[lane + offset], bestId[lane + offset], bestValue[lane], bestId[lane])) {
      bestValue[lane] = bestValue[lane + offset];
      bestId[lane] = bestId[lane + offset];
    }
    workgroupBarrier();
  }
}
