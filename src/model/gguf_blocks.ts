/**
 * The quantised blocks of GGUF files, back to float32. Every value is d · q (− m): few enough bits that a float64 holds
 * each step exactly, so that the one rounding is that of the store.
 */
import type { WeightFormat } from '../kernels/packed.ts';
import { float16ToNumber } from './float16.ts';

/** Types that safetensors files have, too. */
export type TensorDtype = 'F16' | 'BF16' | 'F32';
export type BlockDtype = 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';
/** All types in which weights may be stored. */
export type WeightDtype = TensorDtype | BlockDtype;

export type BlockFormat = {
  /** Values of a block, and its bytes. */
  values: number;
  bytes: number;
  /** Writes the values of the block at byte `at` to `output` from index `to` on. */
  decode(view: DataView, at: number, output: Float32Array, to: number): void;
};

export const isBlockDtype = (dtype: WeightDtype): dtype is BlockDtype => Object.hasOwn(blockFormats, dtype);

/**
 * The packed format of about the same precision. Q4_0 and Q8_0 pack without loss; of the other block types, with their
 * minima or fifth and sixth bits, `q4` would lose half as much again as they have lost already.
 */
export function packedFormatOf(dtype: WeightDtype): WeightFormat {
  if (!isBlockDtype(dtype)) return 'f16';
  return dtype === 'Q4_0' ? 'q4' : 'q8';
}

/** `data` holds whole blocks. @param reuse takes the values if it is long enough: the result is its start then */
export function dequantizeBlocks(
  dtype: BlockDtype,
  data: Uint8Array,
  reuse: Float32Array<ArrayBuffer> | null = null,
): Float32Array<ArrayBuffer> {
  const { values, bytes, decode } = blockFormats[dtype];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const length = (data.length / bytes) * values;
  const output = reuse !== null && reuse.length >= length ? reuse.subarray(0, length) : new Float32Array(length);
  for (let at = 0, to = 0; at < data.length; at += bytes, to += values) decode(view, at, output, to);
  return output;
}

const half = (view: DataView, at: number) => float16ToNumber(view.getUint16(at, true));

/** 32 values: d, in some types m, in some a fifth bit of each value, then the nibbles: the low ones of 16 bytes, and the high ones. */
const nibbles = (bytes: number, highBits: boolean, zeroPoint: number | null): BlockFormat => ({
  values: 32,
  bytes,
  decode(view, at, output, to) {
    const d = half(view, at);
    const m = half(view, at + 2);
    const value = zeroPoint === null ? (q: number) => d * q + m : (q: number) => d * (q - zeroPoint);
    const high = highBits ? view.getUint32(at + bytes - 20, true) : 0;
    for (let i = 0; i < 16; i++) {
      const byte = view.getUint8(at + bytes - 16 + i);
      output[to + i] = value((byte & 15) | (((high >>> i) & 1) << 4));
      output[to + 16 + i] = value((byte >> 4) | (((high >>> (i + 16)) & 1) << 4));
    }
  },
});

/**
 * Eight sub-blocks of 32 values with a scale and a minimum of 6 bits each, in 12 bytes: those of 0 to 3 in the low bits of
 * bytes 0 to 3 and 4 to 7; those of 4 to 7 in the nibbles of bytes 8 to 11, with their top two bits above the former.
 */
const superBlock = (bytes: number, highBits: boolean): BlockFormat => ({
  values: 256,
  bytes,
  decode(view, at, output, to) {
    const d = half(view, at);
    const dmin = half(view, at + 2);
    const byte = (offset: number) => view.getUint8(at + offset);
    const nibblesAt = bytes - 128;
    for (let sub = 0; sub < 8; sub++) {
      const scale = sub < 4 ? byte(4 + sub) & 63 : (byte(8 + sub) & 15) | ((byte(sub) >> 6) << 4);
      const min = sub < 4 ? byte(8 + sub) & 63 : (byte(8 + sub) >> 4) | ((byte(4 + sub) >> 6) << 4);
      // Two sub-blocks share 32 bytes: low nibbles, high nibbles.
      const shift = (sub & 1) * 4;
      for (let i = 0; i < 32; i++) {
        const low = (byte(nibblesAt + (sub >> 1) * 32 + i) >> shift) & 15;
        const high = highBits ? ((byte(16 + i) >> sub) & 1) << 4 : 0;
        output[to + sub * 32 + i] = d * scale * (low | high) - dmin * min;
      }
    }
  },
});

export const blockFormats: Readonly<Record<BlockDtype, BlockFormat>> = {
  Q4_0: nibbles(18, false, 8),
  Q4_1: nibbles(20, false, null),
  Q5_0: nibbles(22, true, 16),
  Q5_1: nibbles(24, true, null),
  Q8_0: {
    values: 32,
    bytes: 34,
    decode(view, at, output, to) {
      const d = half(view, at);
      for (let i = 0; i < 32; i++) output[to + i] = d * view.getInt8(at + 2 + i);
    },
  },
  Q4_K: superBlock(144, false),
  Q5_K: superBlock(176, true),
  Q6_K: {
    values: 256,
    bytes: 210,
    // 128 bytes of low nibbles, 64 of high bits (two a value), 16 scales of 8 bits, d.
    decode(view, at, output, to) {
      const d = half(view, at + 208);
      for (let i = 0; i < 256; i++) {
        const part = i >> 7;
        const place = i & 127;
        const low = (view.getUint8(at + part * 64 + (place & 63)) >> ((place >> 6) * 4)) & 15;
        const high = (view.getUint8(at + 128 + part * 32 + (place & 31)) >> ((place >> 5) * 2)) & 3;
        const scale = view.getInt8(at + 192 + (i >> 4));
        output[to + i] = d * scale * ((low | (high << 4)) - 32);
      }
    },
  },
};
