/** The cache in a real origin's private file system. */
import { afterEach, expect, it, vi } from 'vitest';
import { createEngine } from '../../src/engine.ts';
import { PART_BYTES } from '../../src/model/cache_entry.ts';
import { createFileCache } from '../../src/model/file_cache.ts';
import { browserStore, type FileStore } from '../../src/model/file_store.ts';
import { openModel, readWeights } from '../../src/model/load.ts';
import { readFile, urlSource } from '../../src/model/source.ts';
import { modelCache } from '../../src/model_cache.ts';
import { rangeServer } from '../unit/model/range_server.ts';
import { embeddedFiles } from './engine_bench.ts';

const BASE = 'https://models.test/a/';
const store = browserStore() as FileStore;

afterEach(async () => {
  vi.unstubAllGlobals();
  await modelCache.clear();
});

it('a file that breaks off is resumed, read offline, listed, checked and deleted', async () => {
  const bytes = Uint8Array.from({ length: 2.5 * PART_BYTES }, (_, i) => (i * 7) % 251);
  const server = rangeServer(BASE, new Map([['big.bin', bytes]]));
  const read = () => readFile(urlSource(BASE, undefined, createFileCache(store, false)), 'big.bin', {});
  const isSame = (got: Uint8Array | null) => got?.length === bytes.length && got.every((byte, i) => byte === bytes[i]);
  server.breakAfterBytes = PART_BYTES + 1000;
  await expect(read()).rejects.toThrow(/network error/);
  const url = `${BASE}big.bin`;
  const kept = { url, sizeBytes: PART_BYTES, totalBytes: bytes.length, isComplete: false };
  expect(await modelCache.list()).toEqual([kept]);
  server.breakAfterBytes = null;
  expect(isSame(await read())).toBe(true);
  expect(server.requests.at(-1)).toBe(`big.bin bytes=${PART_BYTES}-`);
  server.isOffline = true;
  expect(isSame(await read())).toBe(true);
  const whole = { ...kept, sizeBytes: bytes.length, isComplete: true };
  expect(await modelCache.check(BASE)).toEqual({ files: [whole], damaged: [], outdated: [] });
  expect(await modelCache.delete(BASE)).toBe(bytes.length);
  expect(await modelCache.list()).toEqual([]);
  await expect(read()).rejects.toThrow(/Failed to fetch/);
});

it('a lock has one holder; what is not there is nothing', async () => {
  const release = await store.lock('a');
  expect(release).not.toBeNull();
  expect(await store.lock('a')).toBeNull();
  release?.();
  await vi.waitFor(async () => {
    const again = await store.lock('a');
    expect(again).not.toBeNull();
    again?.();
  });
  expect(await store.files('nowhere')).toBeNull();
  await store.remove('nowhere');
  await expect(store.write('nowhere', 'x', new Uint8Array(1))).rejects.toThrow();
  expect(await store.freeBytes()).toBeGreaterThan(2 ** 20);
});

it('an engine loads offline what was loaded before', async () => {
  const names = [
    'config.json',
    'generation_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'model.safetensors',
  ];
  const server = rangeServer(BASE, await embeddedFiles('stories-650k', names));
  const model = await openModel(urlSource(BASE, undefined, createFileCache(store, false)), 'target');
  for await (const _ of readWeights(model, 'target'));
  server.isOffline = true;
  await expect(createEngine({ target: BASE, cache: false })).rejects.toThrow(/Failed to fetch/);
  const engine = await createEngine({ target: BASE });
  expect((await engine.generate('Once upon a time', { maxNewTokens: 8 }).result).tokens).toHaveLength(8);
  await engine.dispose();
});
