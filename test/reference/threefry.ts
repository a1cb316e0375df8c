/** Twin of shaders/lib/random.wgsl: the integers bit by bit, the floats from the same f32 `x`, then in float64. */

/** Words 0 and 1 of the key. */
export type Seed = readonly [low: number, high: number];

/** What a random number is for: two bits of its counter. */
export const purposes = { shared: 0, draft: 1, accept: 2, residual: 3 } as const;
export type Purpose = (typeof purposes)[keyof typeof purposes];

const rotations = [13, 15, 26, 6, 17, 29, 16, 24];

/** Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). */
export function threefry(key: Seed, counter: readonly [number, number]): [number, number] {
  const keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd11bda];
  let x = (counter[0] + key[0]) | 0;
  let y = (counter[1] + key[1]) | 0;
  for (let round = 0; round < 20; round++) {
    const rotation = rotations[round % 8]!;
    x = (x + y) | 0;
    y = ((y << rotation) | (y >>> (32 - rotation))) ^ x;
    if (round % 4 === 3) {
      const injection = (round + 1) / 4;
      x = (x + keys[injection % 3]!) | 0;
      y = (y + keys[(injection + 1) % 3]! + injection) | 0;
    }
  }
  return [x >>> 0, y >>> 0];
}

/** `position` is that of the token to be sampled. */
export function randomBits(seed: Seed, position: number, purpose: Purpose, token: number): number {
  return threefry(seed, [token, (position << 2) | purpose])[0];
}

/** In (0, 1), a multiple of 2^-24: exact in f32. */
export function uniformOf(bits: number): number {
  return ((bits >>> 9) + 0.5) * 2 ** -23;
}

/** Exponential with mean 1, 2^-33 to 33 log 2. */
export function exponential(bits: number): number {
  const x = Math.fround(Math.fround(bits) + 0.5) * 2 ** -32;
  return -Math.log1p(-Math.min(x, 1 - 2 ** -33));
}

export function gumbel(bits: number): number {
  return -Math.log(exponential(bits));
}
