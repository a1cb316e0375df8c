// Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon et al. 2011). No state: (seed, position, purpose,
// token) alone decide, so draft and target, any k and any batch draw the same numbers.
const SHARED = 0u;    // seeded requests: draft and target draw the same noise (Gumbel coupling)
const DRAFT = 1u;     // the draft's own choice
const ACCEPT = 2u;    // the accept test
const RESIDUAL = 3u;  // the token after the accepted drafts

fn rotate_left(x: u32, bits: u32) -> u32 {
  return (x << bits) | (x >> (32u - bits));
}

fn mix(x: vec2<u32>, bits: u32) -> vec2<u32> {
  let sum = x.x + x.y;
  return vec2(sum, rotate_left(x.y, bits) ^ sum);
}

fn mix_a(x: vec2<u32>) -> vec2<u32> {
  return mix(mix(mix(mix(x, 13u), 15u), 26u), 6u);
}

fn mix_b(x: vec2<u32>) -> vec2<u32> {
  return mix(mix(mix(mix(x, 17u), 29u), 16u), 24u);
}

fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
  let parity = 0x1bd11bdau ^ key.x ^ key.y;
  var x = counter + key;
  x = mix_a(x) + vec2(key.y, parity + 1u);
  x = mix_b(x) + vec2(parity, key.x + 2u);
  x = mix_a(x) + vec2(key.x, key.y + 3u);
  x = mix_b(x) + vec2(key.y, parity + 4u);
  x = mix_a(x) + vec2(parity, key.x + 5u);
  return x;
}

fn random_bits(seed: vec2<u32>, position: u32, purpose: u32, token: u32) -> u32 {
  return threefry(seed, vec2(token, (position << 2u) | purpose)).x;
}

// In (0, 1). Of 23 bits: with 24 the half would be rounded, at worst up to 1.
fn uniform_of(bits: u32) -> f32 {
  return (f32(bits >> 9u) + 0.5) * 0x1p-23;
}

// Exponential with mean 1. Small values decide a Gumbel race, so they are resolved far below 2^-24.
fn exponential(bits: u32) -> f32 {
  let x = (f32(bits) + 0.5) * 0x1p-32;
  let series = x * (1.0 + x * (0.5 + x * (0.33333334 + x * 0.25)));  // -log(1 - x)
  return select(-log(max(1.0 - x, 0x1p-33)), series, x < 0.015625);
}

fn gumbel(bits: u32) -> f32 {
  return -log(exponential(bits));
}
