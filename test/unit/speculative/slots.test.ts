/** What slots say they hold, against a memory that is simulated word by word: one word stands for keys and values of a position. */
import { expect, it } from 'vitest';
import type { Gpu } from '../../../src/gpu/device.ts';
import { blockSize, type KvCache } from '../../../src/model/kv_cache.ts';
import { createScheduler } from '../../../src/speculative/scheduler.ts';
import { createSlots, reusePrefix, sharedTokens, takePages } from '../../../src/speculative/slots.ts';
import { createRandom } from '../../reference/random.ts';

const slotCount = 3;
const pageCount = 10;
const blocksPerSlot = 7;
const pageBytes = blockSize * 4;

/** The only commands that slots give: copies, and writes of block tables. */
const gpu = {
  device: {
    queue: {
      writeBuffer: (buffer: Uint32Array, offset: number, words: Uint32Array) => buffer.set(words, offset / 4),
      submit() {},
    },
    createCommandEncoder: () => ({
      copyBufferToBuffer(from: Uint32Array, fromBytes: number, to: Uint32Array, toBytes: number, sizeBytes: number) {
        expect(from).not.toBe(to); // WebGPU refuses that
        to.set(from.subarray(fromBytes / 4, (fromBytes + sizeBytes) / 4), toBytes / 4);
      },
      finish: () => null,
    }),
  },
} as unknown as Gpu;

const words = (count: number) => new Uint32Array(count) as unknown as GPUBuffer & Uint32Array;

/** Two layers; copies move two pages at a time. */
const newCache = (): KvCache => ({
  keys: [words(pageCount * blockSize), words(pageCount * blockSize)],
  values: [words(pageCount * blockSize), words(pageCount * blockSize)],
  blockTable: words(slotCount * blocksPerSlot),
  blocksPerSlot,
  pageCount,
  pageBytes,
  copied: Object.assign(words(2 * blockSize), { size: 2 * pageBytes }),
});

/** [p] stands for the tokens 0..p, which are what keys and values of position p depend on. */
function contentsOf(tokens: readonly number[]): number[] {
  let hash = 1;
  return tokens.map((token) => {
    hash = (Math.imul(hash, 31) + token + 1) >>> 0;
    return hash;
  });
}

function access({ keys, values, blockTable }: KvCache, slot: number) {
  const table = blockTable as unknown as Uint32Array;
  const layers = [...keys, ...values] as unknown as Uint32Array[];
  const at = (p: number) =>
    (table[slot * blocksPerSlot + Math.floor(p / blockSize)] as number) * blockSize + (p % blockSize);
  return {
    write: (contents: readonly number[], start: number, end: number) => {
      for (const [i, layer] of layers.entries())
        for (let p = start; p < end; p++) layer[at(p)] = (contents[p] as number) + i;
    },
    /** First positions that do not hold what they should, of the first `count`. */
    wrong: (contents: readonly number[], count: number) =>
      layers.flatMap((layer, i) =>
        contents
          .slice(0, count)
          .flatMap((word, p) => (layer[at(p)] === (word + i) >>> 0 ? [] : [`${i}: ${p}`]))
          .slice(0, 1),
      ),
  };
}

it('hold what they say, whatever sequences share, take over and lose; 600 of them, up to three at a time', async () => {
  const random = createRandom(5);
  const caches = { target: newCache(), draft: newCache() };
  const slots = createSlots(slotCount);
  const scheduler = createScheduler({ slotCount, pageCount });
  const texts = [1, 2, 3].map((text) => Array.from({ length: 400 }, (_, i) => text * 1000 + (i % 7)));
  const sums = { target: 0, draft: 0, copied: 0 };

  const start = (tokens: number[], outputLength: number): Promise<void> => {
    const length = tokens.length + outputLength;
    return scheduler.add({
      priority: 0,
      pageCount: Math.ceil(length / blockSize),
      sharedTokens: (slot, count) => sharedTokens(slots[slot]!, tokens, count),
      run: async (index, pages, keptCount) => {
        takePages(gpu, caches, slots, index, pages, keptCount);
        for (let i = random.integer(4); i > 0; i--) await null;
        const own = sharedTokens(slots[index]!, tokens, pages.length);
        const { targetFed, draftFed } = reusePrefix(gpu, caches, slots, index, tokens);
        const all = [...tokens, ...Array.from({ length: outputLength }, () => random.integer(50))];
        const contents = contentsOf(all);
        const [target, draft] = [access(caches.target, index), access(caches.draft, index)];
        expect(target.wrong(contents, targetFed)).toEqual([]);
        expect(draft.wrong(contents, draftFed)).toEqual([]);
        expect(targetFed).toBeLessThan(tokens.length);
        sums.target += targetFed;
        sums.draft += draftFed;
        sums.copied += Math.max(0, targetFed - own);
        // Others begin while this one is under way; what they take over they find as far as it says to have come.
        target.write(contents, targetFed, tokens.length);
        slots[index]!.fed = { tokens, targetCount: tokens.length, draftCount: draftFed };
        for (let i = random.integer(4); i > 0; i--) await null;
        target.write(contents, tokens.length, length - 1);
        const draftCount = draftFed + random.integer(length - draftFed);
        draft.write(contents, draftFed, draftCount);
        slots[index]!.fed = { tokens: all, targetCount: length - 1, draftCount };
      },
    });
  };

  for (let i = 0; i < 200; i++) {
    const jobs = Array.from({ length: 3 }, () => {
      const text = texts[random.integer(3)]!;
      const outputLength = 1 + random.integer(60);
      const earlier = slots[random.integer(slotCount)]!.fed.tokens;
      // A beginning that others have too, or an earlier sequence continued.
      const isTurn = random.integer(3) === 0 && earlier.length > 0 && earlier.length < 300;
      const tokens = isTurn
        ? [...earlier, 7, 8, 9]
        : [...text.slice(0, 1 + random.integer(330)), 5000 + random.integer(3)];
      return start(tokens, outputLength);
    });
    await Promise.all(jobs);
  }
  expect(sums.target).toBeGreaterThan(20_000);
  expect(sums.draft).toBeGreaterThan(5000);
  expect(sums.copied).toBeGreaterThan(5000);
});
