// What a query makes of keys and values, and which it sees. Expects HEAD_DIM, `params.window`, `rows` and `query`.

const LOWEST = -3.4028234e38;  // the score of a position that a query does not see

// The positions of the block that a row sees, from x to before y.
fn seen_by(t: u32, block: u32) -> vec2<u32> {
  let position = rows.row[t].position;
  let begin = first_seen(position, params.window);
  return clamp(vec2(begin, position + 1u), vec2(block * 64u), vec2(block * 64u + 64u)) - vec2(block * 64u);
}

fn add_product(sum: f32, index: u32, k: vec4<f32>) -> f32 {
  let q = query[index];
  var total = sum;
  total = total + q.x * k.x;
  total = total + q.y * k.y;
  total = total + q.z * k.z;
  total = total + q.w * k.w;
  return total;
}

// Four vectors of a key, which were all under way at once, times those of a query; `left` of them are in the head.
fn add_products(sum: f32, index: u32, left: u32, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>) -> f32 {
  var total = add_product(sum, index, k0);
  if (HEAD_DIM % 16u == 0u || left > 1u) { total = add_product(total, index + 1u, k1); }
  if (HEAD_DIM % 16u == 0u || left > 2u) { total = add_product(total, index + 2u, k2); }
  if (HEAD_DIM % 16u == 0u || left > 3u) { total = add_product(total, index + 3u, k3); }
  return total;
}

// A value of weight 0 is not added: what lies at positions that a query does not see may be no number.
fn add_value(total: vec4<f32>, weight: f32, value: vec4<f32>) -> vec4<f32> {
  return select(total + weight * value, total, weight == 0.0);
}
