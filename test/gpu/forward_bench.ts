/** What the specs below the engine share: forward passes over rows of the test's choice, and a look into the KV cache. */
import { submitPass } from '../../src/gpu/submit.ts';
import { maxRows } from '../../src/kernels/matmul_rows.ts';
import type { ModelConfig } from '../../src/model/config.ts';
import { encodeForward, type Forward } from '../../src/model/forward.ts';
import type { KvCache } from '../../src/model/kv_cache.ts';
import { blocksOf } from '../../src/speculative/round.ts';
import { device, readFloats, readUints, rowWords } from './kernel_bench.ts';

/** One pass over `tokens` at the positions from `start` on, with logits for the last `outputs` (0 to 8) of them. */
export function feed(forward: Forward, tokens: readonly number[], start: number, outputs: number): void {
  const rows = tokens.length;
  const positions = tokens.map((_, row) => start + row);
  device().device.queue.writeBuffer(
    forward.rows,
    0,
    rowWords(positions, { tokens, firstOutputRow: rows - outputs, groupRows: forward.groupRows }),
  );
  const shape = { rows, blocks: blocksOf(forward, start + rows) };
  submitPass(device(), 'spec', (pass) => encodeForward(pass, forward, shape, outputs, { tiled: rows > maxRows }));
}

/** The first `outputs` rows of the last pass's logits, (outputs, V). */
export async function readLogits(forward: Forward, vocabSize: number, outputs: number): Promise<Float32Array[]> {
  const logits = await readFloats(forward.logits);
  return Array.from({ length: outputs }, (_, row) => logits.subarray(row * vocabSize, (row + 1) * vocabSize));
}

/** Fills the cache with NaN (f16): a position that is read before it is written, or is not written, shows. */
export function poison({ keys, values }: KvCache): void {
  for (const buffer of [...keys, ...values]) {
    device().device.queue.writeBuffer(buffer, 0, new Uint32Array(buffer.size / 4).fill(0x7e00_7e00));
  }
}

/** The bits that positions 0..length − 1 of slot 0 hold: by layer, keys before values, then by position (K, headDim / 2), two f16 a word. */
export async function readKv(
  { keys, values }: KvCache,
  { kvHeadCount, headDim }: Pick<ModelConfig, 'kvHeadCount' | 'headDim'>,
  length: number,
): Promise<Map<string, Uint32Array>> {
  const found = new Map<string, Uint32Array>();
  const collect = async (
    name: string,
    buffer: GPUBuffer,
    indexOf: (page: number, word: number, offset: number) => number,
  ) => {
    const cached = await readUints(buffer);
    for (let position = 0; position < length; position++) {
      const [block, offset] = [Math.floor(position / 64), position % 64];
      const bits = Uint32Array.from({ length: (kvHeadCount * headDim) / 2 }, (_, i) => {
        const page = block * kvHeadCount + Math.floor(i / (headDim / 2));
        return cached[indexOf(page, i % (headDim / 2), offset)] as number;
      });
      found.set(`${name} at ${position}`, bits);
    }
  };
  for (const [layer, buffer] of keys.entries()) {
    // (pages, K, headDim / 4, 64) and (pages, K, 64, headDim / 4), of two words
    await collect(
      `keys ${layer}`,
      buffer,
      (page, word, offset) => ((page * (headDim / 4) + Math.floor(word / 2)) * 64 + offset) * 2 + (word % 2),
    );
    await collect(
      `values ${layer}`,
      values[layer] as GPUBuffer,
      (page, word, offset) => (page * 64 + offset) * (headDim / 2) + word,
    );
  }
  return found;
}

/** Names of the entries whose bits differ, or that only one has. */
export function differences(
  got: ReadonlyMap<string, Uint32Array>,
  expected: ReadonlyMap<string, Uint32Array>,
): string[] {
  const names = [...new Set([...got.keys(), ...expected.keys()])];
  return names.filter((name) => {
    const [a, b] = [got.get(name), expected.get(name)];
    return a === undefined || b === undefined || a.length !== b.length || a.some((word, i) => word !== b[i]);
  });
}

export const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);
