/** 16-bit float formats, bit by bit and exactly: the GPU's packing and unpacking is tested against these. */

/** IEEE 754 binary16 → number; subnormals, infinities and NaN included. */
export function decodeFloat16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** Number → IEEE 754 binary16 bits, to nearest, ties to even; overflow becomes infinity. */
export function encodeFloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= 65520) return sign | 0x7c00; // half way between the largest finite value and 2^16
  if (magnitude < 2 ** -14) return sign | roundHalfToEven(magnitude * 2 ** 24);
  const exponent = exponentOf(magnitude);
  // A fraction that rounds up to 2048 carries into the exponent, as it should.
  return sign | (((exponent + 15) << 10) + roundHalfToEven(magnitude * 2 ** (10 - exponent)) - 1024);
}

/** Number → bfloat16 bits: rounded to float32 first, then to nearest, ties to even. */
export function encodeBfloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  floatView.setFloat32(0, value);
  const bits = floatView.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function roundToFloat16(values: Float64Array): Float64Array {
  return values.map((value) => decodeFloat16(encodeFloat16(value)));
}

export function roundToBfloat16(values: Float64Array): Float64Array {
  return values.map((value) => {
    floatView.setUint32(0, encodeBfloat16(value) << 16);
    return floatView.getFloat32(0);
  });
}

const floatView = new DataView(new ArrayBuffer(8));

/** floor(log2(x)) of a normal number, from its bits: `Math.log2` may round up just below a power of two. */
function exponentOf(value: number): number {
  floatView.setFloat64(0, value);
  return ((floatView.getUint32(0) >>> 20) & 0x7ff) - 1023;
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Keys or values as the cache holds them (shaders/lib/half.wgsl): F16, with the largest for what is beyond it. */
export function roundToCache(values: Float64Array): Float64Array {
  return roundToFloat16(values.map((value) => Math.max(-65504, Math.min(65504, value))));
}
