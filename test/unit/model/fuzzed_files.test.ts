/**
 * Damaged heads of files, read as the engine reads them: 200 of each kind that no longer describe their file are an error
 * each; those that may still do so are an error or a model. All of it soon, and no allocation by a number in a file.
 */
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

type Oracle = (damaged: Uint8Array) => boolean;

/** Whether the tensors are no longer those of `file`, as `JSON.parse` has them, or bytes of the file are missing. */
function safetensorsOracle(file: Uint8Array): Oracle {
  const headOf = (bytes: Uint8Array) => {
    const { __metadata__: _, ...tensors } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, headerBytes)));
    return JSON.stringify([[...bytes.subarray(0, 8)], Object.entries(tensors).sort(), bytes.length]);
  };
  const whole = headOf(file);
  return (damaged) => {
    try {
      return headOf(damaged) !== whole;
    } catch {
      return true; // no JSON
    }
  };
}

/**
 * Whether a number has changed by which a reader finds its way (counts, lengths, types), or a tensor's record, or bytes of
 * the file are missing. Other texts and values may make another model, which nobody could tell from this one.
 */
function ggufOracle(file: Uint8Array): Oracle {
  const view = new DataView(file.buffer, file.byteOffset);
  const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
  const [string, array] = [8, 9];
  const fixed: number[] = [];
  const types: number[] = [];
  let at = 0;
  const take = (size: number, into: number[] = []) => {
    for (let end = at + size; at < end; at++) into.push(at);
    return size === 8 ? Number(view.getBigUint64(at - 8, true)) : view.getUint32(at - 4, true);
  };
  const skip = (size: number) => {
    at += size;
  };
  const value = (type: number): void => {
    if (type === string) skip(take(8, fixed));
    else if (type !== array) skip(sizes[type] as number);
    else {
      types.push(at);
      const element = take(4);
      for (let count = take(8, fixed); count > 0; count--) value(element);
    }
  };
  take(4, fixed);
  const versionAt = at;
  take(4);
  const [tensorCount, metadataCount] = [take(8, fixed), take(8, fixed)];
  for (let i = 0; i < metadataCount; i++) {
    skip(take(8, fixed));
    types.push(at);
    value(take(4));
  }
  for (let i = 0; i < tensorCount; i++) {
    const nameBytes = take(8, fixed);
    for (let end = at + nameBytes; at < end; at++) fixed.push(at);
    for (let dimensions = take(4, fixed); dimensions > 0; dimensions--) take(8, fixed);
    take(4, fixed);
    take(8, fixed);
  }
  const longestPadding = 32;
  return (damaged) => {
    if (damaged.length < file.length - longestPadding) return true;
    const got = new DataView(damaged.buffer, damaged.byteOffset);
    const isVersion = [2, 3].includes(got.getUint32(versionAt, true));
    // Of two known types of a number, both can be meant.
    const areTypes = types.every((place) => got.getUint32(place, true) < sizes.length);
    return !isVersion || !areTypes || fixed.some((place) => damaged[place] !== file[place]);
  };
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
const sources: [string, Uint8Array, Oracle, number, (file: Uint8Array, isTold: boolean) => ModelSource][] = [
  [
    'safetensors',
    weights,
    safetensorsOracle(weights),
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
    ggufOracle(gguf),
    60_000,
    (file, isTold) => ({
      url: '',
      gguf: 'a.gguf',
      open: async (_, { range }) => withSize(file.subarray(range!.begin, range!.end), isTold),
    }),
  ],
];

describe.each(sources)('200 damaged %s heads', (_, file, isInvalid, headBytes, sourceOf) => {
  test.each([true, false])('the server tells the size: %s', async (isTold) => {
    const random = createRandom(isTold ? 31 : 32);
    const startedAt = performance.now();
    let invalidCount = 0;
    let drawCount = 0;
    for (; invalidCount < 100; drawCount++) {
      const damaged = damage(file, headBytes, random);
      const record = watchAllocations();
      let failure: unknown = null;
      try {
        await loadModelFiles(sourceOf(damaged, isTold), { role: 'target' });
      } catch (error) {
        failure = error;
      } finally {
        vi.unstubAllGlobals();
      }
      if (failure !== null) expect(isForetokenError(failure), String((failure as Error).stack)).toBe(true);
      if (isInvalid(damaged)) {
        expect({ drawCount, isRefused: failure !== null }).toEqual({ drawCount, isRefused: true });
        invalidCount += 1;
      }
      // Without a size, a slice is reserved that the file may not have.
      const limit = isTold ? damaged.length : Math.max(damaged.length, packSliceBytes);
      // The other files of a folder are whole; small arrays are nobody's concern.
      const others = Math.max(
        ...[...folder].filter(([name]) => name.endsWith('.json')).map(([, { length }]) => length),
      );
      expect(record.largestBytes).toBeLessThanOrEqual(Math.max(limit, others, 65_536));
    }
    expect(drawCount).toBeLessThan(200);
    expect(performance.now() - startedAt).toBeLessThan(30_000);
  });
});
