// A sum over the 64 lanes of a workgroup, as a tree of fixed width: the same bits on every device and in every pass.
var<workgroup> reduceScratch: array<f32, 64>;

fn reduce_sum(lane: u32, value: f32) -> f32 {
  reduceScratch[lane] = value;
  workgroupBarrier();
  for (var offset = 32u; offset > 0u; offset >>= 1u) {
    if (lane < offset) {
      reduceScratch[lane] = reduceScratch[lane] + reduceScratch[lane + offset];
    }
    workgroupBarrier();
  }
  let total = reduceScratch[0];
  workgroupBarrier();  // the scratch may be written again at once
  return total;
}
