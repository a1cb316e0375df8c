// What matmul_tile.wgsl and matmul_lane.wgsl do with the sums of row m: bias, residual, activation. Expects lib/activate.wgsl and
// their `params`, `bias` and `output`.

fn product(sum: f32, n: u32) -> f32 {
  if (params.hasBias == 1u) {
    return sum + bias[n];
  }
  return sum;
}

fn store(m: u32, n: u32, sum: f32) {
  if (n >= params.outputSize) {
    return;
  }
  let place = params.firstOutput + n;
  let index = m * params.outputStride + place;
  var total = product(sum, place);
  if (params.addOutput == 1u) { total = output[index] + total; }
  output[index] = total;
}

fn store_gated(m: u32, n: u32, gate: f32, up: f32) {
  if (n >= params.outputSize / 2u) {
    return;
  }
  let place = params.firstOutput + n;
  let factor = product(up, params.outputStride + place);
  output[m * params.outputStride + place] = activate(params.activation, product(gate, place)) * factor;
}
