/** A small deterministic generator for tests: the same seed gives the same numbers on every machine. */
export type Random = {
  /** In [0, 1). */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
  /** In 0..limit − 1. */
  integer(limit: number): number;
  /** `count` normal deviates times `scale`. */
  normals(count: number, scale?: number): Float64Array;
};

/** mulberry32 (a public-domain generator), with Box–Muller for normal deviates. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return {
    uniform,
    normal,
    integer: (limit) => Math.floor(uniform() * limit),
    normals: (count, scale = 1) => Float64Array.from({ length: count }, () => normal() * scale),
  };
}
