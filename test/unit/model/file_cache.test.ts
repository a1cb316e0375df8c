import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ModelFetchError } from '../../../src/errors.ts';
import { PART_BYTES } from '../../../src/model/cache_entry.ts';
import { createFileCache } from '../../../src/model/file_cache.ts';
import { createModelCache } from '../../../src/model/model_cache.ts';
import { readFile, urlSource } from '../../../src/model/source.ts';
import { readSafetensors } from '../../reference/checkpoint.ts';
import { convertToGguf } from '../../reference/gguf.ts';
import { createRandom } from '../../reference/random.ts';
import { syntheticModel } from '../../reference/synthetic_model.ts';
import { readFolder } from './folders.ts';
import { plainTokenizerFields, readCheckpoint } from './gguf_models.ts';
import { type LoadedModel, loadModelFiles, loadPair } from './loaded.ts';
import { type MemoryStore, memoryStore } from './memory_store.ts';
import { type RangeServer, rangeServer } from './range_server.ts';

const BASE = 'https://models.test/a/';
const WEIGHTS = 'model.safetensors';
const folder = readFolder('stories-3m');
const weightBytes = folder.get(WEIGHTS)!.length; // over one part, less than two

let store: MemoryStore;
let warn: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  store = memoryStore();
  warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
});
afterEach(() => {
  expect(store.locked).toEqual(new Set());
  expect(warn).not.toHaveBeenCalled();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** Each load has a cache object of its own, as each engine has. */
const source = (url = BASE) => urlSource(url, undefined, createFileCache(store, false));
const load = (url = BASE, options = {}) => loadModelFiles(source(url), { role: 'target', ...options });
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('none'),
    (error) => error,
  );
const expectSame = (got: LoadedModel, expected: ReadonlyMap<string, { data: Uint8Array }>) => {
  expect([...got.tensors.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [name, { data }] of expected)
    expect([name, Buffer.compare(got.tensors.get(name)!.data, data)]).toEqual([name, 0]);
};
const stories = readSafetensors(folder.get(WEIGHTS)!);
const cached = createModelCache(() => store);

describe('a second load', () => {
  test('fetches nothing but news, and works offline', async () => {
    const server = rangeServer(BASE, folder);
    expectSame(await load(), stories);
    expect(server.sentBytes).toBe([...folder.values()].reduce((sum, { length }) => sum + length, 0) - unread());
    const { requests, sentBytes } = server;
    server.requests = [];
    expectSame(await load(), stories);
    // What was missing is asked for again.
    expect(server.requests.every((request) => !folder.has(request))).toBe(true);
    expect(requests.length).toBeGreaterThan(server.requests.length);
    expect([...server.heads].sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(server.sentBytes).toBe(sentBytes);
    server.isOffline = true;
    const reports: number[] = [];
    const onProgress = ({ loadedBytes, totalBytes }: { loadedBytes: number; totalBytes: number | null }) => {
      expect(totalBytes).toBe(weightBytes);
      reports.push(loadedBytes);
    };
    expectSame(await load(BASE, { onProgress }), stories);
    expect([reports[0], reports.at(-1)]).toEqual([0, weightBytes]);
    expect((await failure(loadModelFiles(urlSource(BASE), { role: 'target' }))).message).toMatch(/Failed to fetch/);
  });

  /** Files of the folder that no load reads. */
  const unread = () =>
    [...folder]
      .filter(([name]) => !/^(config|generation_config|tokenizer|tokenizer_config)\.json$|^model\.s/.test(name))
      .reduce((sum, [, { length }]) => sum + length, 0);

  test('finds a new version: of the whole copy, by ETag or date', async () => {
    const server = rangeServer(BASE, folder);
    await load();
    const other = folder.get(WEIGHTS)!.slice();
    other[other.length - 1]! ^= 1;
    server.files.set(WEIGHTS, { bytes: other, etag: '"2"' });
    expectSame(await load(), readSafetensors(other));
    server.files.set(WEIGHTS, { bytes: folder.get(WEIGHTS)!, lastModified: 'Tue, 24 Nov 2026 10:00:00 GMT' });
    // One of them has a tag only: nothing is known.
    expectSame(await load(), readSafetensors(other));
    await cached.clear();
    await load();
    server.files.set(WEIGHTS, { bytes: other, lastModified: 'Tue, 24 Nov 2026 11:00:00 GMT' });
    expectSame(await load(), readSafetensors(other));
  });

  test('an optional file that was missing is found when it is there', async () => {
    const files = new Map(folder);
    files.delete('generation_config.json');
    const server = rangeServer(BASE, files);
    await load();
    server.files.set('generation_config.json', {
      bytes: new TextEncoder().encode('{"eos_token_id": [7]}'),
      etag: '"1"',
    });
    expect((await load()).config.eosTokenIds).toEqual([7]);
    server.isOffline = true;
    expect((await load()).config.eosTokenIds).toEqual([7]);
  });

  test('tells files apart by their query, which is not kept in the clear', async () => {
    const server = rangeServer(BASE, folder);
    await load(`${BASE}?token=secret`);
    const before = server.sentBytes;
    await load(`${BASE}?token=other`);
    expect(server.sentBytes).toBe(2 * before);
    const text = [...store.disk].flatMap(([name, files]) => [
      name,
      ...files.keys(),
      ...[...files.values()].map((bytes) => new TextDecoder().decode(bytes.subarray(0, 1000))),
    ]);
    expect(text.join()).not.toMatch(/secret|other/);
    expect(text.join()).toContain(BASE);
  });
});

test("files of the page's own origin are kept where that is asked for", async () => {
  vi.stubGlobal('location', new URL('https://models.test/page.html'));
  rangeServer(BASE, folder);
  await load();
  expect(await cached.list()).toEqual([]);
  await loadModelFiles(urlSource(BASE, undefined, createFileCache(store, true)), { role: 'target' });
  expect((await cached.list()).length).toBe(5);
});

describe('broken off and resumed', () => {
  const model = syntheticModel({ hiddenSize: 1024, ffnSize: 2048, layerCount: 1, vocabSize: 4096 });
  let files: Map<string, Uint8Array>;
  beforeEach(async () => {
    files = new Map();
    for (const name of ['config.json', 'tokenizer.json', WEIGHTS]) {
      files.set(name, (await readFile(model.source, name, {})) as Uint8Array);
    }
  });

  test('30 times at random bytes: the model is right, and no break costs a part', async () => {
    const server = rangeServer(BASE, files);
    const random = createRandom(29);
    expect(model.sizeBytes).toBeGreaterThan(6 * PART_BYTES);
    for (const name of ['config.json', 'tokenizer.json']) await readFile(source(), name, {});
    server.sentBytes = 0;
    let reachedByte = 0;
    for (let breaks = 0; breaks < 30; breaks++) {
      server.requests = [];
      const [before, keptBytes] = [server.sentBytes, Math.floor(reachedByte / PART_BYTES) * PART_BYTES];
      server.breakAfterBytes = random.integer(1.1 * PART_BYTES);
      const error = await failure(load());
      expect(error).toBeInstanceOf(ModelFetchError);
      expect(error.message).toMatch(/model\.safetensors: network error/);
      const range = keptBytes === 0 ? '' : ` bytes=${keptBytes}-`;
      expect(server.requests.filter((request) => request.startsWith(WEIGHTS))).toEqual([`${WEIGHTS}${range}`]);
      reachedByte = keptBytes + server.sentBytes - before;
      expect(server.sentBytes - before).toBe(server.breakAfterBytes);
    }
    expect(reachedByte).toBeGreaterThan(2 * PART_BYTES);
    server.breakAfterBytes = null;
    expectSame(await load(), readSafetensors(files.get(WEIGHTS)!));
    expect(server.sentBytes).toBeLessThan(model.sizeBytes + 30 * PART_BYTES);
    server.isOffline = true;
    expectSame(await load(), readSafetensors(files.get(WEIGHTS)!));
  });

  test.each([true, false])('another version restarts; the server knows ranges: %s', async (knowsRanges) => {
    const server = rangeServer(BASE, files);
    server.knowsRanges = knowsRanges;
    server.breakAfterBytes = 2 * PART_BYTES + 5;
    await failure(load());
    const other = files.get(WEIGHTS)!.slice().fill(7, 100_000, 200_000).fill(7, -1000);
    server.files.set(WEIGHTS, { bytes: other, etag: '"2"' });
    server.breakAfterBytes = null;
    expectSame(await load(), readSafetensors(other));
  });

  test('a server without ranges sends all of it, and what is kept is passed over', async () => {
    const server = rangeServer(BASE, files);
    server.knowsRanges = false;
    server.breakAfterBytes = 3 * PART_BYTES + 5;
    await failure(load());
    server.breakAfterBytes = null;
    expectSame(await load(), readSafetensors(files.get(WEIGHTS)!));
    expect(server.requests.at(-1)).toBe(`${WEIGHTS} bytes=${3 * PART_BYTES}-`);
  });

  test('a date will do for a version, and without any nothing is joined', async () => {
    const server = rangeServer(BASE, files);
    for (const version of [{ lastModified: 'Tue, 24 Nov 2026 10:00:00 GMT' }, {}]) {
      await cached.clear();
      server.files.set(WEIGHTS, { bytes: files.get(WEIGHTS)!, ...version });
      server.breakAfterBytes = 3 * PART_BYTES;
      await failure(load());
      server.breakAfterBytes = null;
      server.requests = [];
      expectSame(await load(), readSafetensors(files.get(WEIGHTS)!));
      const weights = server.requests.filter((request) => request.startsWith(WEIGHTS));
      const resumed = `${WEIGHTS} bytes=${3 * PART_BYTES}-`;
      expect(weights).toEqual('lastModified' in version ? [resumed] : [resumed, WEIGHTS]);
    }
  });

  test('an abort while the copy is read, and while the rest is fetched', async () => {
    const server = rangeServer(BASE, files);
    server.breakAfterBytes = 2 * PART_BYTES;
    await failure(load());
    server.breakAfterBytes = null;
    for (const bytes of [PART_BYTES, 3 * PART_BYTES]) {
      const controller = new AbortController();
      const onProgress = ({ loadedBytes }: { loadedBytes: number }) => {
        if (loadedBytes >= bytes) controller.abort(new Error('enough'));
      };
      expect((await failure(load(BASE, { signal: controller.signal, onProgress }))).message).toBe('enough');
    }
    expectSame(await load(), readSafetensors(files.get(WEIGHTS)!));
  });

  test('two loads at once: one of them keeps the files', async () => {
    const server = rangeServer(BASE, files);
    const pair = await loadPair(source(), source());
    expectSame(pair.target, readSafetensors(files.get(WEIGHTS)!));
    expectSame(pair.draft!, readSafetensors(files.get(WEIGHTS)!));
    expect((await cached.list()).every(({ isComplete }) => isComplete)).toBe(true);
    server.isOffline = true;
    expectSame(await load(), readSafetensors(files.get(WEIGHTS)!));
  });
});

describe('GGUF', () => {
  const GGUF = `${BASE}a.gguf`;
  const { config, tensors } = readCheckpoint('llama');
  const embedding = { dtype: 'F16' as const, shape: [2 ** 17, 24], data: new Uint8Array(2 ** 17 * 48).fill(1) };
  const grown = new Map([...tensors, ['model.embed_tokens.weight', embedding], ['lm_head.weight', embedding]]);
  const file = convertToGguf({ ...config, vocabSize: 2 ** 17 }, grown, plainTokenizerFields(200));

  test('head and tensors: no byte is fetched twice, and then none', async () => {
    const server: RangeServer = rangeServer(BASE, new Map([['a.gguf', file]]));
    const expected = (await loadModelFiles(urlSource(GGUF), { role: 'target' })).tensors;
    server.sentBytes = 0;
    server.requests = [];
    expectSame(await load(GGUF), expected);
    expect(server.sentBytes).toBe(file.length);
    expect(server.requests).toHaveLength(2);
    server.isOffline = true;
    expectSame(await load(GGUF), expected);
    expect(await cached.list()).toEqual([
      { url: GGUF, sizeBytes: file.length, totalBytes: file.length, isComplete: true },
    ]);
  });

  test('another version between head and tensors is an error, and the next load is of one version', async () => {
    const server = rangeServer(BASE, new Map([['a.gguf', file]]));
    const { fetch } = globalThis;
    vi.stubGlobal('fetch', async (...parameters: Parameters<typeof fetch>) => {
      if (server.requests.length === 1) server.files.set('a.gguf', { bytes: file, etag: '"2"' });
      return fetch(...parameters);
    });
    expect((await failure(load(GGUF))).message).toMatch(/a\.gguf has changed on the server while it was being loaded/);
    await load(GGUF);
    expect((await cached.check(GGUF)).outdated).toEqual([]);
  });
});

describe('the disk', () => {
  const isWarned = (message: RegExp) => {
    expect(warn).toHaveBeenCalledOnce();
    expect(warn.mock.calls[0]![0]).toMatch(message);
    warn.mockClear();
  };

  test('too full, as it tells: the model loads, what does not fit is not begun', async () => {
    rangeServer(BASE, folder);
    store.toldBytes = 22e6;
    expectSame(await load(), stories);
    isWarned(
      /a\/model\.safetensors is not kept in the cache: it needs \d+ bytes, and the browser grants 22000000 more/,
    );
    expect((await cached.list()).map(({ url }) => url)).not.toContain(BASE + WEIGHTS);
    expect((await cached.list()).length).toBe(4);
  });

  test('full in the middle: the model loads, its part is deleted, all else is sound', async () => {
    const server = rangeServer(BASE, folder);
    await readFile(source(), 'config.json', {});
    store.capacityBytes = PART_BYTES + 600_000;
    expectSame(await load(), stories);
    isWarned(/model\.safetensors is not kept in the cache: the disk is full/);
    expect(store.usedBytes()).toBeLessThan(PART_BYTES);
    store.capacityBytes = null;
    expectSame(await load(), stories);
    server.isOffline = true;
    expectSame(await load(), stories);
    const { damaged } = await cached.check(BASE);
    expect(damaged).toEqual([]);
  });

  test('no storage at all: files come from the server', async () => {
    rangeServer(BASE, folder);
    for (const broken of ['files', 'create', 'write', 'lock', 'freeBytes'] as const) {
      store = { ...memoryStore(), [broken]: () => Promise.reject(new DOMException('denied', 'SecurityError')) };
      expectSame(await load(), stories);
      expect((await cached.list().catch(() => [])).length).toBe(0);
      warn.mockClear();
    }
  });

  const weightsFolder = () => {
    const found = [...store.disk].find(([, files]) =>
      new TextDecoder().decode(files.get('about.json')).includes(WEIGHTS),
    );
    return found![1];
  };
  const firstPart = () => [...weightsFolder().keys()].find((name) => name.startsWith('000000-'))!;

  test('a part that cannot be read ends the load, and the next one is whole', async () => {
    rangeServer(BASE, folder);
    await load();
    const read = store.read;
    const part = firstPart();
    store.read = async (name, file) => (file === part ? new Blob([]) : read(name, file));
    const error = await failure(load());
    expect(error).toBeInstanceOf(ModelFetchError);
    expect(error.message).toMatch(/copy of .*model\.safetensors in the cache: it is not what was written\. It is del/);
    store.read = read;
    expectSame(await load(), stories);
    store.read = async (name, file) =>
      file === part ? Promise.reject(new DOMException('gone', 'NotReadableError')) : read(name, file);
    expect((await failure(load())).message).toMatch(/in the cache: gone\. It is deleted: load the model again/);
    store.read = read;
    expectSame(await load(), stories);
  });

  test.each<[string, () => void]>([
    ['no part', () => weightsFolder().delete(firstPart())],
    ['a short part', () => weightsFolder().set(firstPart(), new Uint8Array(5))],
    ['a bit', () => (weightsFolder().get(firstPart())![99]! ^= 1)],
    ['an empty part', () => weightsFolder().set(firstPart(), new Uint8Array(0))],
    ['what is said of it', () => weightsFolder().delete('about.json')],
    ['JSON', () => weightsFolder().set('about.json', new TextEncoder().encode('{"url"'))],
    ['sense', () => weightsFolder().set('about.json', new TextEncoder().encode('{"url": 1, "version": null}'))],
  ])('a copy that lacks %s is mended', async (_, damage) => {
    const server = rangeServer(BASE, folder);
    await load();
    damage();
    await load().catch(() => {});
    expectSame(await load(), stories);
    server.isOffline = true;
    expectSame(await load(), stories);
  });

  test('`check` reads the bytes, and tells what is outdated', async () => {
    const server = rangeServer(BASE, folder);
    await load();
    const files = await cached.list();
    expect(await cached.check(BASE)).toEqual({ files, damaged: [], outdated: [] });
    weightsFolder().get(firstPart())![1000]! ^= 1;
    server.files.set('config.json', { bytes: folder.get('config.json')!, etag: '"2"' });
    expect(await cached.check(BASE)).toEqual({ files, damaged: [BASE + WEIGHTS], outdated: [`${BASE}config.json`] });
    server.isOffline = true;
    expect((await cached.check(BASE)).outdated).toEqual([]);
  });

  test('is listed and deleted by model', async () => {
    const OTHER = 'https://models.test/b/';
    rangeServer(BASE, folder);
    await load();
    vi.unstubAllGlobals();
    rangeServer(OTHER, readFolder('stories-650k'));
    await load(OTHER);
    const files = await cached.list();
    expect(files).toHaveLength(10);
    expect(files.find(({ url }) => url === BASE + WEIGHTS)).toEqual({
      ...{ url: BASE + WEIGHTS, sizeBytes: weightBytes, totalBytes: weightBytes, isComplete: true },
    });
    expect((await cached.check('https://models.test/')).files).toEqual([]);
    const sum = files.filter(({ url }) => url.startsWith(BASE)).reduce((total, { sizeBytes }) => total + sizeBytes, 0);
    expect(await cached.delete(BASE.slice(0, -1))).toBe(sum);
    expect((await cached.list()).every(({ url }) => url.startsWith(OTHER))).toBe(true);
    expect(await cached.delete(BASE)).toBe(0);
    await cached.clear();
    expect(store.disk.size).toBe(0);
    await expect(cached.delete('')).rejects.toThrow(/Expected a Hugging Face repository id/);
  });

  test('where there is none, the list is empty', async () => {
    const nowhere = createModelCache(() => null);
    expect(await nowhere.list()).toEqual([]);
    expect(await nowhere.check(BASE)).toEqual({ files: [], damaged: [], outdated: [] });
    expect([await nowhere.delete(BASE), await nowhere.clear()]).toEqual([0, 0]);
  });
});
