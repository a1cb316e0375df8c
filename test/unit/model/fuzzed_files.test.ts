/** Damaged files, read as the engine reads them: an error or a model, soon, and no allocation by a number in a file. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { isForetokenError } from '../../../src/errors.ts';
import { packSliceBytes } from '../../../src/kernels/pack.ts';
import { type FileStream, streamOf } from '../../../src/model/body.ts';
import type { ModelSource } from '../../../src/model/source.ts';
import { createRandom, type Random } from '../../reference/random.ts';
import { readFolder } from './folders.ts';
import { embeddedGguf } from './gguf_models.ts';
import { loadModelFiles } from './loaded.ts';

afterEach(() => vi.unstubAllGlobals());

/** Records the largest array that anybody makes by a length. */
function watchAllocations(): { largestBytes: number } {
  const record = { largestBytes: 0 };
  for (const name of ['Uint8Array', 'Uint16Array', 'Float32Array', 'ArrayBuffer'] as const) {
    const original = globalThis[name] as unknown as { new (...args: unknown[]): object; BYTES_PER_ELEMENT?: number };
    const watched: object = new Proxy(original, {
      construct(target, args, newTarget): object {
        if (typeof args[0] === 'number') {
          record.largestBytes = Math.max(record.largestBytes, args[0] * (target.BYTES_PER_ELEMENT ?? 1));
        }
        return Reflect.construct(target, args, newTarget === watched ? target : newTarget);
      },
    });
    vi.stubGlobal(name, watched);
  }
  return record;
}

/** Sets bytes at the start of the file, where counts and lengths are, and sometimes cuts it. */
function damage(file: Uint8Array, headBytes: number, random: Random): Uint8Array {
  const isCut = random.integer(4) === 0;
  const damaged = file.slice(0, isCut ? random.integer(file.length) : file.length);
  for (let flips = 1 + random.integer(4); flips > 0 && damaged.length > 0; flips--) {
    const at = random.integer(Math.min(random.integer(2) === 0 ? 64 : headBytes, damaged.length));
    damaged[at] = random.integer(2) === 0 ? 255 : random.integer(256);
  }
  return damaged;
}

const folder = readFolder('stories-650k');
const weights = folder.get('model.safetensors')!;
const headerBytes = 8 + Number(new DataView(weights.buffer, weights.byteOffset).getBigUint64(0, true));
const gguf = embeddedGguf('stories-650k', 'Q8_0');

const withSize = (bytes: Uint8Array, isTold: boolean): FileStream => {
  const stream = streamOf(bytes);
  return isTold ? stream : { ...stream, length: null, isFirm: false };
};
const sources: [string, Uint8Array, number, (file: Uint8Array, isTold: boolean) => ModelSource][] = [
  [
    'safetensors',
    weights,
    headerBytes,
    (file, isTold) => ({
      url: 'https://models.test/a/',
      async open(name) {
        if (name === 'model.safetensors') return withSize(file, isTold);
        const bytes = folder.get(name);
        return bytes ? streamOf(bytes) : null;
      },
    }),
  ],
  [
    'GGUF',
    gguf,
    60_000,
    (file, isTold) => ({
      url: '',
      gguf: 'a.gguf',
      open: async (_, { range }) => withSize(file.subarray(range!.begin, range!.end), isTold),
    }),
  ],
];

describe.each(sources)('200 damaged %s files', (_, file, headBytes, sourceOf) => {
  test.each([true, false])('the server tells the size: %s', async (isTold) => {
    const random = createRandom(isTold ? 31 : 32);
    const outcomes = { model: 0, error: 0 };
    const startedAt = performance.now();
    for (let round = 0; round < 100; round++) {
      const damaged = damage(file, headBytes, random);
      const record = watchAllocations();
      try {
        await loadModelFiles(sourceOf(damaged, isTold), { role: 'target' });
        outcomes.model += 1;
      } catch (error) {
        expect(isForetokenError(error), String((error as Error).stack)).toBe(true);
        outcomes.error += 1;
      } finally {
        vi.unstubAllGlobals();
      }
      // Without a size, a slice is reserved that the file may not have.
      const limit = isTold ? damaged.length : Math.max(damaged.length, packSliceBytes);
      // The other files of a folder are whole; small arrays are nobody's concern.
      const others = Math.max(
        ...[...folder].filter(([name]) => name.endsWith('.json')).map(([, { length }]) => length),
      );
      expect(record.largestBytes).toBeLessThanOrEqual(Math.max(limit, others, 65_536));
    }
    expect(outcomes.error).toBeGreaterThan(50);
    expect(performance.now() - startedAt).toBeLessThan(30_000);
  });
});
