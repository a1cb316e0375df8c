// Blocks of attention, folded left to right onto a running maximum, sum and values (Milakov & Gimelshein 2018). Begins with
// (FOLD_START, 0, 0). One of the two has the higher maximum and stays as it is; so each sum has one product, which compilers
// fuse alike, where two would leave them a choice.
const FOLD_START = -3.4028234e38;

// What the part with the lower maximum is times.
fn fold_scale(highest: f32, other: f32) -> f32 {
  return exp(-abs(highest - other));
}

fn fold_sum(sum: f32, highest: f32, part: f32, other: f32) -> f32 {
  let rises = other > highest;
  return select(sum, part, rises) + select(part, sum, rises) * fold_scale(highest, other);
}

fn fold_values(total: vec4<f32>, highest: f32, part: vec4<f32>, other: f32) -> vec4<f32> {
  let rises = other > highest;
  return select(total, part, rises) + select(part, total, rises) * fold_scale(highest, other);
}
