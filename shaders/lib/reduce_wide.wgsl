// Reductions over 256 lanes, as a tree of fixed width: the same bits in every pass.
const WIDE = 256u;
var<workgroup> wideScratch: array<f32, WIDE>;

fn wide_sum(lane: u32, value: f32) -> f32 {
  wideScratch[lane] = value;
  workgroupBarrier();
  for (var offset = WIDE / 2u; offset > 0u; offset >>= 1u) {
    if (lane < offset) {
      wideScratch[lane] = wideScratch[lane] + wideScratch[lane + offset];
    }
    workgroupBarrier();
  }
  let total = wideScratch[0];
  workgroupBarrier();  // the scratch may be written again at once
  return total;
}

fn wide_max(lane: u32, value: f32) -> f32 {
  wideScratch[lane] = value;
  workgroupBarrier();
  for (var offset = WIDE / 2u; offset > 0u; offset >>= 1u) {
    if (lane < offset) {
      wideScratch[lane] = max(wideScratch[lane], wideScratch[lane + offset]);
    }
    workgroupBarrier();
  }
  let highest = wideScratch[0];
  workgroupBarrier();
  return highest;
}
