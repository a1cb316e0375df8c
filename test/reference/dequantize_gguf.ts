/**
 * Float64 twin of src/model/gguf_blocks.ts: one value of one block at a time, read as the types are described by
 * ggml's block structures (ggml-common.h). A block's numbers are little-endian.
 */
import { decodeFloat16 } from './float_formats.ts';

export type GgufBlockType = 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';

type BlockType = { values: number; bytes: number; value(block: Uint8Array, i: number): number };

const float16At = (block: Uint8Array, at: number) => decodeFloat16(block[at]! + 256 * block[at + 1]!);
const signed = (byte: number) => (byte < 128 ? byte : byte - 256);
/** Field number `index` of `width` bits in a byte, the lowest first. */
const field = (byte: number, index: number, width: number) => Math.floor(byte / 2 ** (index * width)) % 2 ** width;

/** struct { half d; [half m;] [uint32 qh;] uint8 qs[16]; }: byte j has value j in its low nibble and value j + 16 in its high one. */
const nibbleOf = (qs: Uint8Array, i: number) => field(qs[i % 16]!, Math.floor(i / 16), 4);
/** Bit i of the 32-bit number qh is the fifth bit of value i. */
const fifthBitOf = (qh: Uint8Array, i: number) => 16 * field(qh[Math.floor(i / 8)]!, i % 8, 1);

/**
 * uint8 scales[12] of q4_K and q5_K: eight pairs of 6-bit numbers (scale, min). The first four scales are the low six
 * bits of bytes 0..3, the first four mins those of bytes 4..7. The last four have their low four bits in bytes 8..11 (scale
 * in the low nibble, min in the high one), and their high two in the top two bits of bytes 0..3 (scale) and 4..7 (min).
 */
function scaleAndMin(scales: Uint8Array, pair: number): [number, number] {
  if (pair < 4) return [scales[pair]! % 64, scales[4 + pair]! % 64];
  const low = scales[4 + pair]!;
  return [field(low, 0, 4) + 16 * field(scales[pair - 4]!, 3, 2), field(low, 1, 4) + 16 * field(scales[pair]!, 3, 2)];
}

/** Values 64·g + 0..31 are the low nibbles of 32 bytes of qs, values 64·g + 32..63 their high ones. */
const nibbleOfSuperBlock = (qs: Uint8Array, i: number) =>
  field(qs[32 * Math.floor(i / 64) + (i % 32)]!, Math.floor(i / 32) % 2, 4);

function superBlockValue(block: Uint8Array, i: number, q: number): number {
  const [scale, min] = scaleAndMin(block.subarray(4, 16), Math.floor(i / 32));
  return float16At(block, 0) * scale * q - float16At(block, 2) * min;
}

export const ggufBlockTypes: Readonly<Record<GgufBlockType, BlockType>> = {
  Q4_0: { values: 32, bytes: 18, value: (b, i) => float16At(b, 0) * (nibbleOf(b.subarray(2), i) - 8) },
  Q4_1: { values: 32, bytes: 20, value: (b, i) => float16At(b, 0) * nibbleOf(b.subarray(4), i) + float16At(b, 2) },
  Q5_0: {
    values: 32,
    bytes: 22,
    value: (b, i) => float16At(b, 0) * (nibbleOf(b.subarray(6), i) + fifthBitOf(b.subarray(2), i) - 16),
  },
  Q5_1: {
    values: 32,
    bytes: 24,
    value: (b, i) => float16At(b, 0) * (nibbleOf(b.subarray(8), i) + fifthBitOf(b.subarray(4), i)) + float16At(b, 2),
  },
  Q8_0: { values: 32, bytes: 34, value: (b, i) => float16At(b, 0) * signed(b[2 + i]!) },
  Q4_K: { values: 256, bytes: 144, value: (b, i) => superBlockValue(b, i, nibbleOfSuperBlock(b.subarray(16), i)) },
  Q5_K: {
    values: 256,
    bytes: 176,
    // Bit s of byte j of qh is the fifth bit of value j of sub-block s.
    value: (b, i) => {
      const fifth = 16 * field(b[16 + (i % 32)]!, Math.floor(i / 32), 1);
      return superBlockValue(b, i, nibbleOfSuperBlock(b.subarray(48), i) + fifth);
    },
  },
  // struct { uint8 ql[128]; uint8 qh[64]; int8 scales[16]; half d; }: two halves of 128 values, in each of which
  // quarters 0 and 1 are the low nibbles of 64 bytes of ql, quarters 2 and 3 their high nibbles; byte j of the 32 of qh
  // has two high bits for value j of every quarter. A scale holds for 16 values; q is biased by 32.
  Q6_K: {
    values: 256,
    bytes: 210,
    value: (b, i) => {
      const [half, quarter, j] = [Math.floor(i / 128), Math.floor(i / 32) % 4, i % 32];
      const low = field(b[64 * half + 32 * (quarter % 2) + j]!, Math.floor(quarter / 2), 4);
      const high = field(b[128 + 32 * half + j]!, quarter, 2);
      return float16At(b, 208) * signed(b[192 + Math.floor(i / 16)]!) * (low + 16 * high - 32);
    },
  },
};

/** All values of whole blocks. */
export function dequantizeGguf(type: GgufBlockType, data: Uint8Array): Float64Array {
  const { values, bytes, value } = ggufBlockTypes[type];
  if (data.length % bytes !== 0) throw new RangeError(`Expected whole blocks of ${bytes} bytes, got ${data.length}.`);
  return Float64Array.from({ length: (data.length / bytes) * values }, (_, index) => {
    const block = Math.floor(index / values);
    return value(data.subarray(block * bytes, (block + 1) * bytes), index % values);
  });
}
