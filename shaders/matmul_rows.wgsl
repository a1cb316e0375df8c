// matmul_rows.wgsl: y = x · Wᵀ (+ bias) (+ y), or activation(gate) · up of two such products, for a few rows; each weight
//   word is loaded once for 8 of them, and each input vector once for two outputs. x may be a normalised row of the residual
//   stream (lib/stream.wgsl): its root mean square divides the sums. y may be such a row, made ready for the next norm.
// In:  rows Rows; weight (N, K) packed, and its scales (lib/packed.wgsl); bias f32, of all parts; input (M, K) f32;
//      nextNorm (N,) f32: weights of the norm that comes next
// Out: output (M, N) f32; with an activation (M, N / 2), of the products of rows n (gate) and N / 2 + n (up) of the weight
// Dispatch: ceil(N / 2 / (64 / segments)) workgroups of 64, folded into 2-D, and ceil(M / 8) in z; lane = output row · segments + segment, and
//   its second output lies 64 / segments rows further on, or N / 2. Overrides: FORMAT (0: f16, 1: q8, 2: q4),
//   ROWS (most of M in one workgroup: 1, 2, 4, 8). Needs: nothing optional.
// Numerics: each segment of K in ascending k, every product onto the running sum (one on its own could be fused with either
//   neighbour), segments folded left to right; matmul_tile.wgsl sums in the same order.
// Twin: test/reference/matmul.ts
override FORMAT: u32;
override ROWS: u32;

struct Params {
  outputSize: u32,    // N
  inputVectors: u32,  // K / 4
  segments: u32,
  segmentWords: u32,
  hasBias: u32,
  addOutput: u32,     // 1: residual, adds to what is there
  activation: u32,    // lib/activate.wgsl; ACTIVATION_NONE: a product for every row of the weight
  outputRows: u32,    // 1: of the input only the rows that get logits, to the first rows of the output
  outputStride: u32,  // from one row of the output to the next
  firstOutput: u32,   // where in a row of the output this weight's products begin
  inputStride: u32,   // vectors from one row of the input to the next
  firstInput: u32,    // vector of an input row where its K values begin
  squareGroup: u32,   // 0: the input is not of a norm; else hidden values to each of its sums of squares
  epsilon: f32,       // of that norm
  streamSize: u32,    // 0: plain output; else D of the residual stream that the output is
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> nextNorm: array<f32>;
@group(0) @binding(7) var<storage, read_write> output: array<f32>;

var<workgroup> partial: array<vec2<f32>, ROWS * 64u>;  // (M, lanes)
var<workgroup> squares: array<f32, 64>;                // (M, 8 lanes)
var<workgroup> hidden: array<f32, ROWS * 32u>;         // (M, outputs of the workgroup)

// A piece of two weight rows times input row t from vector k4 on, onto the running sums of their outputs.
fn accumulate(sum: vec2<f32>, t: u32, k4: u32, a: Piece, b: Piece) -> vec2<f32> {
  let row = t * params.inputStride + params.firstInput;
  // The padding behind K holds zero weights, so any input of the row may stand there.
  let x = input[row + min(k4, params.inputVectors - 1u)];
  let y = input[row + min(k4 + 1u, params.inputVectors - 1u)];
  var acc = sum;
  acc = acc + vec2(a.low.x, b.low.x) * x.x;
  acc = acc + vec2(a.low.y, b.low.y) * x.y;
  acc = acc + vec2(a.low.z, b.low.z) * x.z;
  acc = acc + vec2(a.low.w, b.low.w) * x.w;
  acc = acc + vec2(a.high.x, b.high.x) * y.x;
  acc = acc + vec2(a.high.y, b.high.y) * y.y;
  acc = acc + vec2(a.high.z, b.high.z) * y.z;
  acc = acc + vec2(a.high.w, b.high.w) * y.w;
  return acc;
}

fn product(sum: f32, n: u32) -> f32 {
  if (params.hasBias == 1u) {
    return sum + bias[n];
  }
  return sum;
}

// What a row's sums are times: 1 / root mean square of the row where the input is of a norm.
fn input_scale(m: u32) -> f32 {
  if (params.squareGroup == 0u) {
    return 1.0;
  }
  var sum = 0.0;
  for (var part = 0u; part < 8u; part += 1u) {
    sum = sum + squares[m * 8u + part];
  }
  return inverse_rms(sum, params.inputVectors * 4u, params.epsilon);
}

// Output `place` of a workgroup, which is product n of row m: of the pass and of the workgroup.
fn store(firstRow: u32, m: u32, place: u32, n: u32, sum: f32) {
  var total = 0.0;
  if (n < params.outputSize) {
    total = product(sum, params.firstOutput + n);
    let index = (firstRow + m) * params.outputStride + params.firstOutput + n;
    if (params.addOutput == 1u) { total = output[index] + total; }
    output[index] = total;
    if (params.streamSize != 0u) {
      output[index + params.streamSize] = total * nextNorm[params.firstOutput + n];
    }
  }
  if (params.streamSize != 0u) {
    hidden[m * 32u + place] = total;
  }
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) counts: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let rowsPerGroup = 64u / params.segments;
  let isGated = params.activation != ACTIVATION_NONE;
  let half = params.outputSize / 2u;
  let group = id.x + id.y * counts.x;
  // First output of the workgroup, how many there are, and from each to its second one.
  let first = group * rowsPerGroup * select(2u, 1u, isGated);
  let outputs = select(params.outputSize, half, isGated);
  let distance = select(rowsPerGroup, half, isGated);
  let firstRow = id.z * ROWS;
  let skippedRows = select(0u, rows.firstOutputRow, params.outputRows == 1u);
  if (firstRow + skippedRows >= rows.rowCount || first >= outputs) {
    return;
  }
  let firstInputRow = firstRow + skippedRows;
  // Rows that this pass has not, or that a lookup left empty, cost a branch that all lanes take alike.
  let rowCount = rows.rowCount - firstInputRow;
  let segment = lane % params.segments;
  let stride = packed_stride(params.segments);
  // Lanes beyond the last output repeat it, and store nothing; those beyond the last row of the workgroup have no part.
  let nA = min(first + lane / params.segments, params.outputSize - 1u);
  let nB = min(nA + distance, params.outputSize - 1u);
  let steps = select(params.segmentWords, 0u, lane >= stride);
  var indexA = packed_row(nA, params.segments, params.segmentWords) + segment;
  var indexB = packed_row(nB, params.segments, params.segmentWords) + segment;
  // Named sums: an indexed local array would spill to memory.
  var sum0 = vec2(0.0);
  var sum1 = vec2(0.0);
  var sum2 = vec2(0.0);
  var sum3 = vec2(0.0);
  var sum4 = vec2(0.0);
  var sum5 = vec2(0.0);
  var sum6 = vec2(0.0);
  var sum7 = vec2(0.0);
  for (var step = 0u; step < steps; step += 1u) {
    var packedA = weight[indexA];
    var packedB = weight[indexB];
    var scaleA = word_scales(indexA);
    var scaleB = word_scales(indexB);
    for (var j = 0u; j < word_pieces(); j += 1u) {
      let a = first_piece(packedA, scaleA.x);
      let b = first_piece(packedB, scaleB.x);
      let k4 = piece_vector(step * word_pieces() + j, segment, params.segments);
      sum0 = accumulate(sum0, firstInputRow, k4, a, b);
      if (ROWS > 1u && rowCount > 1u) { sum1 = accumulate(sum1, firstInputRow + 1u, k4, a, b); }
      if (ROWS > 2u && rowCount > 2u) { sum2 = accumulate(sum2, firstInputRow + 2u, k4, a, b); }
      if (ROWS > 3u && rowCount > 3u) { sum3 = accumulate(sum3, firstInputRow + 3u, k4, a, b); }
      if (ROWS > 4u && rowCount > 4u) { sum4 = accumulate(sum4, firstInputRow + 4u, k4, a, b); }
      if (ROWS > 5u && rowCount > 5u) { sum5 = accumulate(sum5, firstInputRow + 5u, k4, a, b); }
      if (ROWS > 6u && rowCount > 6u) { sum6 = accumulate(sum6, firstInputRow + 6u, k4, a, b); }
      if (ROWS > 7u && rowCount > 7u) { sum7 = accumulate(sum7, firstInputRow + 7u, k4, a, b); }
      packedA = next_piece(packedA);
      packedB = next_piece(packedB);
      scaleA = scaleA.yzwx;
      scaleB = scaleB.yzwx;
    }
    indexA += stride;
    indexB += stride;
  }
  if (params.squareGroup != 0u) {
    let t = firstInputRow + min(lane / 8u, min(ROWS, rowCount) - 1u);
    let row = t * params.inputStride + params.firstInput + params.inputVectors + 1u;
    let vectors = square_vectors(params.inputVectors * 4u, params.squareGroup);
    var sum = 0.0;
    for (var i = lane % 8u; i < vectors; i += 8u) {
      sum = add_squares(sum, input[row + i]);
    }
    squares[lane] = sum;
  }
  partial[lane] = sum0;
  if (ROWS > 1u) { partial[64u + lane] = sum1; }
  if (ROWS > 2u) { partial[128u + lane] = sum2; }
  if (ROWS > 3u) { partial[192u + lane] = sum3; }
  if (ROWS > 4u) { partial[256u + lane] = sum4; }
  if (ROWS > 5u) { partial[320u + lane] = sum5; }
  if (ROWS > 6u) { partial[384u + lane] = sum6; }
  if (ROWS > 7u) { partial[448u + lane] = sum7; }
  workgroupBarrier();
  for (var o = lane; o < rowsPerGroup * min(ROWS, rowCount); o += 64u) {
    let m = o / rowsPerGroup;
    let r = o % rowsPerGroup;
    let n = first + r;
    var total = vec2(0.0);
    for (var s = 0u; s < params.segments; s += 1u) {
      total = total + partial[m * 64u + r * params.segments + s];
    }
    total = total * input_scale(m);
    if (!isGated) {
      store(firstRow, m, r, n, total.x);
      store(firstRow, m, r + distance, n + distance, total.y);
    } else if (n < half) {
      let place = params.firstOutput + n;
      let up = product(total.y, params.outputStride + place);
      output[(firstRow + m) * params.outputStride + place] = activate(params.activation, product(total.x, place)) * up;
    }
  }
  if (params.streamSize != 0u) {
    workgroupBarrier();
    if (lane < min(ROWS, rowCount)) {
      var sum = 0.0;
      for (var i = 0u; i < 2u * rowsPerGroup; i += 1u) {
        sum = add_square(sum, hidden[lane * 32u + i]);
      }
      let index = (params.firstOutput + first) / (2u * rowsPerGroup);
      let squaresOf = (firstRow + lane) * params.outputStride + first_square(params.streamSize);
      output[squaresOf + index] = sum;
      if ((index + 1u) * 2u * rowsPerGroup >= params.streamSize) {
        for (var i = index + 1u; i % 4u != 0u; i += 1u) { output[squaresOf + i] = 0.0; }
      }
    }
  }
}
