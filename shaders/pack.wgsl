// pack.wgsl: rows of a stored tensor into a packed matrix, quantised on the way.
// In:  source: rows of K values, f32, f16 or bf16 (K a multiple of 4)
// Out: weight (N, K) packed; scales f16, two a word; faults u32: a row count per tensor
// Dispatch: ceil(rows · words / 4 / 64) workgroups of 64, folded into 2-D, a lane per four words, which share their scales.
//   Overrides: FORMAT (0: f16, 1: q8, 2: q4; see lib/packed.wgsl), SOURCE (0: f32, 1: f16, 2: bf16). Needs: nothing optional.
// Numerics: scales per 32 values as in llama.cpp's Q8_0 and Q4_0, so that such values come back exactly. The same bits on
//   every device: to f16 by integers (nearest, ties to even), as WGSL leaves the rounding of pack2x16float open; to
//   integers by exact comparisons, as it leaves the last places of a quotient open.
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
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;
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

// floor(value / scale + 1/2). Products of an f16 and a small half-integer are exact.
fn nearest(value: f32, scale: f32) -> i32 {
  if (scale == 0.0) {
    return 0;
  }
  let q = i32(floor(value / scale + 0.5));
  let side = sign(scale);
  if (side * value < side * ((f32(q) - 0.5) * scale)) {
    return q - 1;
  }
  return select(q, q + 1, side * value >= side * ((f32(q) + 0.5) * scale));
}

// Four bytes or eight nibbles from value k on.
fn integers(row: u32, k: u32, scale: f32) -> u32 {
  let isNibble = FORMAT == 2u;
  let bits = select(8u, 4u, isNibble);
  let least = select(-127, -8, isNibble);
  let most = select(127, 7, isNibble);
  let zero = select(128, 8, isNibble);
  var word = 0u;
  for (var i = 0u; i < 32u / bits; i += 1u) {
    let q = clamp(nearest(source_value(row, k + i), scale), least, most);
    word |= u32(q + zero) << (i * bits);
  }
  return word;
}

// Bits of the f16 scale of the 32 values from k on.
fn scale_half(row: u32, k: u32) -> u32 {
  let half = half_of(bitcast<u32>(extreme_of(row, k) * select(1.0 / 127.0, -0.125, FORMAT == 2u)));
  if (is_out_of_range(half)) {
    atomicAdd(&faults[params.tensor], 1u);
  }
  return select(half & 0x7fffu, half, FORMAT == 2u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) counts: vec3<u32>) {
  let quadsPerStep = params.segments / 4u;
  let quads = quadsPerStep * params.segmentWords;
  let item = id.x + id.y * counts.x * 64u;
  let row = item / quads;
  let step = item % quads / quadsPerStep;
  let segment = item % quadsPerStep * 4u;
  if (row >= params.rowCount) {
    return;
  }
  let start = packed_row(params.firstRow + row, params.segments, params.segmentWords);
  let index = start + step * packed_stride(params.segments) + segment;
  var words = array<vec4<u32>, 4>();
  var halves = vec4(0u);
  for (var j = 0u; j < word_pieces(); j += 1u) {
    let k = piece_vector(step * word_pieces() + j, segment, params.segments) * 4u;
    var scale = 1.0;
    if (FORMAT != 0u) {
      halves[j] = scale_half(row, k);
      scale = unpack2x16float(halves[j]).x;
    }
    for (var lane = 0u; lane < 4u; lane += 1u) {
      let first = k + lane * 8u;
      if (FORMAT == 1u) {
        words[lane][j * 2u] = integers(row, first, scale);
        words[lane][j * 2u + 1u] = integers(row, first + 4u, scale);
      } else if (FORMAT == 2u) {
        words[lane][j] = integers(row, first, scale);
      } else {
        words[lane] = f16_word(row, first);
      }
    }
  }
  for (var lane = 0u; lane < 4u; lane += 1u) {
    weight[index + lane] = words[lane];
  }
  if (FORMAT == 1u) {
    scales[index / 4u] = halves.x | (halves.y << 16u);
  } else if (FORMAT == 2u) {
    scales[index / 2u] = halves.x | (halves.y << 16u);
    scales[index / 2u + 1u] = halves.z | (halves.w << 16u);
  }
}
