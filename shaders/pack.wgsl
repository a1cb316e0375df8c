// pack.wgsl: rows of a stored tensor into a packed matrix, quantised on the way.
// In:  source: rows of K values, f32, f16 or bf16 (K a multiple of 4)
// Out: weight (N, K) packed; scales f16, two a word (atomic: neighbours share it); faults u32: a row count per tensor
// Dispatch: ceil(rows · words / 64) workgroups of 64, folded into 2-D, a lane per word. Overrides: FORMAT (0: f16, 1: q8,
//   2: q4; see lib/packed.wgsl), SOURCE (0: f32, 1: f16, 2: bf16). Needs: nothing optional.
// Numerics: scales per 32 values as in llama.cpp's Q8_0 and Q4_0, so that such values come back exactly. To f16: nearest,
//   ties to even, by integers, as WGSL leaves the rounding of pack2x16float open.
// Twin: test/reference/pack.ts
override FORMAT: u32;
override SOURCE: u32;

struct Params {
  inputSize: u32,  // K
  rowCount: u32,   // rows in `source`
  firstRow: u32,   // where they go in the matrix
  segments: u32,
  segmentWords: u32,
  tensor: u32,     // index into `faults`
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> scales: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> faults: array<atomic<u32>>;

// Value k of a source row of two-byte values; 0 behind its end.
fn source_half(row: u32, k: u32) -> u32 {
  let index = row * params.inputSize + k;
  return select(0u, (source[index >> 1u] >> ((index & 1u) << 4u)) & 0xffffu, k < params.inputSize);
}

// Bits of value k of a source row, widened to f32; 0 behind its end.
fn source_bits(row: u32, k: u32) -> u32 {
  if (SOURCE == 0u) {
    return select(0u, source[row * params.inputSize + k], k < params.inputSize);
  }
  let half = source_half(row, k);
  if (SOURCE == 2u) {
    return half << 16u;
  }
  return bitcast<u32>(unpack2x16float(half).x);
}

fn source_value(row: u32, k: u32) -> f32 {
  return bitcast<f32>(source_bits(row, k));
}

// Round to nearest, ties to even. Too large and not finite gives 0x7c00 in magnitude.
fn half_of(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x47800000u) {
    return sign | 0x7c00u;
  }
  if (magnitude >= 0x38800000u) {
    // Drop 13 bits of the fraction; a carry runs into the exponent, as it should.
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }
  if (magnitude < 0x33000000u) {
    return sign;
  }
  let fraction = (magnitude & 0x7fffffu) | 0x800000u;
  let shift = 126u - (magnitude >> 23u);  // 14 to 24
  let half = fraction >> shift;
  let rest = fraction & ((1u << shift) - 1u);
  let tie = 1u << (shift - 1u);
  return sign | (half + u32(rest > tie || (rest == tie && (half & 1u) == 1u)));
}

fn is_out_of_range(half: u32) -> bool {
  return (half & 0x7c00u) == 0x7c00u;
}

// Of the 32 values from k on, the one that is largest in magnitude.
fn extreme_of(row: u32, k: u32) -> f32 {
  var extreme = 0.0;
  for (var i = 0u; i < 32u; i += 1u) {
    let bits = source_bits(row, k + i);
    if ((bits & 0x7f800000u) == 0x7f800000u) {
      atomicAdd(&faults[params.tensor], 1u);  // infinite, or no number
    }
    let value = bitcast<f32>(bits);
    if (abs(value) > abs(extreme)) {
      extreme = value;
    }
  }
  return extreme;
}

fn f16_word(row: u32, k: u32) -> vec4<u32> {
  var word = vec4(0u);
  for (var i = 0u; i < 8u; i += 1u) {
    var half = 0u;
    if (SOURCE == 1u) {
      half = source_half(row, k + i);  // as it is, subnormals too
    } else {
      half = half_of(source_bits(row, k + i));
      if (is_out_of_range(half)) {
        atomicAdd(&faults[params.tensor], 1u);
      }
    }
    word[i >> 1u] |= half << ((i & 1u) << 4u);
  }
  return word;
}

fn q8_word(row: u32, k: u32, scale: f32) -> vec4<u32> {
  let inverse = select(0.0, 1.0 / scale, scale != 0.0);
  var word = vec4(0u);
  for (var i = 0u; i < 16u; i += 1u) {
    let q = clamp(i32(round(source_value(row, k + i) * inverse)), -127, 127);
    word[i >> 2u] |= (bitcast<u32>(q) & 255u) << ((i & 3u) << 3u);
  }
  return word;
}

fn q4_word(row: u32, k: u32, scale: f32) -> vec4<u32> {
  let inverse = select(0.0, 1.0 / scale, scale != 0.0);
  var word = vec4(0u);
  for (var i = 0u; i < 32u; i += 1u) {
    let q = clamp(i32(floor(source_value(row, k + i) * inverse + 8.5)), 0, 15);
    word[i >> 3u] |= u32(q) << ((i & 7u) << 2u);
  }
  return word;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) counts: vec3<u32>) {
  let words = params.segments * params.segmentWords;
  let item = id.x + id.y * counts.x * 64u;
  let row = item / words;
  let word = item % words;
  if (row >= params.rowCount) {
    return;
  }
  let k = word * word_vectors() * 4u;
  let index = packed_word(params.firstRow + row, word, params.segments, params.segmentWords);
  if (FORMAT == 0u) {
    weight[index] = f16_word(row, k);
    return;
  }
  // Two q8 words share a block of 32 values and so a scale.
  let extreme = extreme_of(row, k & ~31u);
  let half = half_of(bitcast<u32>(extreme / select(127.0, -8.0, FORMAT == 2u)));
  if (is_out_of_range(half)) {
    atomicAdd(&faults[params.tensor], 1u);
  }
  let unsignedHalf = select(half & 0x7fffu, half, FORMAT == 2u);
  atomicOr(&scales[index >> 1u], unsignedHalf << ((index & 1u) << 4u));
  let scale = unpack2x16float(unsignedHalf).x;
  if (FORMAT == 1u) {
    weight[index] = q8_word(row, k, scale);
  } else {
    weight[index] = q4_word(row, k, scale);
  }
}
