import { afterEach, describe, expect, test, vi } from 'vitest';
import { InvalidOptionError, ModelFetchError, ModelFormatError } from '../../../src/errors.ts';
import type { ReadOptions } from '../../../src/model/body.ts';
import { readFile, urlSource } from '../../../src/model/source.ts';
import { chunked } from './serve.ts';

afterEach(() => vi.unstubAllGlobals());

/** Answers every request with this response; returns the requests. */
function answer(make: () => Response | Promise<Response>): { url: string; signal?: AbortSignal }[] {
  const requests: { url: string; signal?: AbortSignal }[] = [];
  vi.stubGlobal('fetch', async (url: URL, init: { signal?: AbortSignal }) => {
    requests.push({ url: String(url), ...init });
    return make();
  });
  return requests;
}

const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => i % 251);
const respond = (body: Uint8Array, headers: Record<string, string> = {}) => new Response(chunked(body), { headers });
/** `toEqual` takes a second for this. */
const expectBytes = (got: Uint8Array | null, expected: Uint8Array) =>
  expect(got && Buffer.compare(got, expected)).toBe(0);
const read = (options: ReadOptions = {}, file = 'model.safetensors') =>
  readFile(urlSource('https://models.test/a'), file, options);

describe('folder URLs', () => {
  test.each([
    ['https://models.test/a', undefined, 'https://models.test/a/config.json'],
    ['https://models.test/a/', undefined, 'https://models.test/a/config.json'],
    ['https://models.test', undefined, 'https://models.test/config.json'],
    ['https://models.test/a?token=b/c#top', undefined, 'https://models.test/a/config.json?token=b/c'],
    ['models/a/', 'https://page.test/app/index.html', 'https://page.test/app/models/a/config.json'],
    ['./models/a', 'https://page.test/app/index.html', 'https://page.test/app/models/a/config.json'],
    ['../models/a/', 'https://page.test/app/index.html', 'https://page.test/models/a/config.json'],
    ['/models/a/', 'https://page.test/app/', 'https://page.test/models/a/config.json'],
    ['models/b/a', 'https://page.test/app/', 'https://page.test/app/models/b/a/config.json'],
    ['./a', 'https://page.test/app/', 'https://page.test/app/a/config.json'],
    ['/a', 'https://page.test/app/', 'https://page.test/a/config.json'],
    ['a b', 'https://page.test/', 'https://page.test/a%20b/config.json'],
    ['capacitor://localhost/a', undefined, 'capacitor://localhost/a/config.json'],
    // Repository ids of the hub, with or without a page.
    ['org/model-1.7B', undefined, 'https://huggingface.co/org/model-1.7B/resolve/main/config.json'],
    ['org/model', 'https://page.test/app/', 'https://huggingface.co/org/model/resolve/main/config.json'],
    ['org/model@v1.0', undefined, 'https://huggingface.co/org/model/resolve/v1.0/config.json'],
    ['org/model@refs/pr/7', undefined, 'https://huggingface.co/org/model/resolve/refs%2Fpr%2F7/config.json'],
    ['https://huggingface.co/o/m/resolve/main', undefined, 'https://huggingface.co/o/m/resolve/main/config.json'],
  ])('%s from %s', async (url, baseUrl, fileUrl) => {
    const requests = answer(() => respond(bytes(2)));
    const source = urlSource(url, baseUrl);
    await readFile(source, 'config.json', {});
    expect(requests).toEqual([{ url: fileUrl }]);
    expect(source.url).toBe(fileUrl.replace(/config\.json.*/, ''));
  });

  test.each([
    ['', /got ""/],
    [undefined, /got undefined/],
    ['models/a/', /no page to resolve a relative URL against/],
    ['https://', /no valid URL/],
    ['C:\\models\\a', /Serve it over HTTP/],
    ['file:///models/a', /Serve it over HTTP/],
    ['https://user:secret@models.test/a', /user name/],
    ['https://models.test/a/model.safetensors', /a file of another kind/],
    ['https://huggingface.co/org/model', /repository id 'org\/model' instead/],
    ['https://huggingface.co/org/model/tree/main', /"\/resolve\/" where it has "\/tree\/"/],
    ['https://huggingface.co/org/model/blob/main/a.gguf', /"\/resolve\/" where it has "\/blob\/"/],
  ])('%j is refused', (url, message) => {
    expect(() => urlSource(url as string)).toThrow(InvalidOptionError);
    expect(() => urlSource(url as string)).toThrow(message);
    expect(() => urlSource(url as string)).not.toThrow(/secret@/);
  });
});

describe('bodies', () => {
  test('a known length is read into one buffer of that length', async () => {
    const body = bytes(200_000);
    answer(() => respond(body, { 'content-length': '200000' }));
    const reports: unknown[] = [];
    const got = await read({ onBytes: (loaded, total) => reports.push([loaded, total]) });
    expectBytes(got, body);
    expect(got!.buffer.byteLength).toBe(200_000);
    expect(reports).toEqual([
      [0, 200_000],
      [65_536, 200_000],
      [131_072, 200_000],
      [196_608, 200_000],
      [200_000, 200_000],
    ]);
  });

  test('an unknown length is joined, and the total comes at the end', async () => {
    const body = bytes(100_000);
    answer(() => respond(body));
    const reports: unknown[] = [];
    expectBytes(await read({ onBytes: (loaded, total) => reports.push([loaded, total]) }), body);
    expect(reports).toEqual([
      [65_536, null],
      [100_000, null],
      [100_000, 100_000],
    ]);
  });

  test.each([
    ['with its encoding told', { 'content-encoding': 'gzip', 'content-length': '100' }],
    ['with its encoding hidden (another origin)', { 'content-length': '100' }],
    ['with a length that is no number', { 'content-length': '1e3' }],
  ])('a compressed body longer than its length, %s', async (_, headers: Record<string, string>) => {
    const body = bytes(150_000);
    answer(() => respond(body, headers));
    const reports: [number, number | null][] = [];
    expectBytes(await read({ onBytes: (loaded, total) => reports.push([loaded, total]) }), body);
    expect(reports.at(-1)).toEqual([150_000, 150_000]);
    for (const [loaded, total] of reports) expect(loaded).toBeLessThanOrEqual(total ?? loaded);
  });

  test('a body shorter than the compressed length is complete', async () => {
    answer(() => respond(bytes(2), { 'content-encoding': 'br', 'content-length': '22' }));
    expect(await read()).toEqual(bytes(2));
  });

  test('a short body is an error, unless another origin may hide that it was compressed', async () => {
    answer(() => respond(bytes(10), { 'content-length': '11' }));
    await expect(read()).rejects.toThrow(/a\/model\.safetensors ended early: expected 11 bytes, got 10/);
    answer(() => Object.defineProperty(respond(bytes(10), { 'content-length': '11' }), 'type', { value: 'cors' }));
    expect(await read()).toEqual(bytes(10));
  });

  test('an empty body', async () => {
    answer(() => new Response(null, { headers: { 'content-length': '0' } }));
    expect(await read()).toEqual(new Uint8Array(0));
  });

  test('an announced size beyond the limit is refused before anything is read or reserved', async () => {
    const cancelled = vi.fn();
    const onBytes = vi.fn();
    answer(
      () =>
        new Response(new ReadableStream({ cancel: cancelled }), { headers: { 'content-length': '9007199254740991' } }),
    );
    await expect(read({ onBytes })).rejects.toThrow(/too large: expected at most 8589934592 bytes/);
    expect(cancelled).toHaveBeenCalledOnce();
    expect(onBytes).not.toHaveBeenCalled();
  });

  test('a body that grows beyond the limit is cancelled', async () => {
    const cancelled = vi.fn();
    answer(() => new Response(new ReadableStream({ pull: (c) => c.enqueue(bytes(100)), cancel: cancelled })));
    await expect(read({ maxBytes: 1000 })).rejects.toThrow(/too large: expected at most 1000 bytes, got 1100 or more/);
    expect(cancelled).toHaveBeenCalledOnce();
  });

  test('more memory than there is', async () => {
    answer(() => respond(bytes(300), { 'content-length': String(2 ** 52) }));
    await expect(read({ maxBytes: Number.MAX_SAFE_INTEGER })).rejects.toThrow(
      /Could not reserve 4503599627370496 bytes/,
    );
  });
});

describe('answers', () => {
  test('only a missing optional file is null', async () => {
    answer(() => new Response('', { status: 404 }));
    expect(await read({ optional: true })).toBeNull();
    await expect(read()).rejects.toThrow(ModelFetchError);
    answer(() => new Response('', { status: 500 }));
    await expect(read({ optional: true })).rejects.toThrow(/expected status 200, got 500/);
  });

  test.each(['<!DOCTYPE html><p>', '\n  <html lang="en">', '\uFEFF<!doctype html>', '<?xml version="1.0"?><Error/>'])(
    '%j is a page, not a file',
    async (page) => {
      answer(() => new Response(page));
      expect(await read({ optional: true }, 'generation_config.json')).toBeNull();
      await expect(read({}, 'config.json')).rejects.toThrow(ModelFormatError);
      await expect(read({}, 'config.json')).rejects.toThrow(/a\/config\.json is an HTML page, expected config\.json/);
    },
  );

  test.each([
    [401, 'GatedRepo', /org\/model is gated.*serve its folder yourself/],
    [403, 'GatedRepo', /org\/model is gated/],
    [401, 'RepoNotFound', /no public repository org\/model.*'\.\/org\/model\/'/],
    [401, null, /no public repository org\/model/],
    [404, 'RevisionNotFound', /no revision "v\/1"/],
    [404, 'EntryNotFound', /no file config\.json\. .*org\/model\/resolve\/v%2F1\/<file>\.gguf/],
    [403, null, /refuses this file of org\/model/],
    [429, null, /try again later/],
  ])('the hub refuses with %i, %s', async (status, code, message) => {
    answer(() => new Response('', { status, headers: code === null ? {} : { 'x-error-code': code } }));
    const error = await readFile(urlSource('org/model@v/1'), 'config.json', {}).catch((caught) => caught);
    expect(error).toBeInstanceOf(ModelFetchError);
    expect(error.message).toMatch(message);
    await expect(read()).rejects.not.toThrow(/repository|huggingface/);
  });

  test('the query, which may hold a secret, is in no message', async () => {
    answer(() => new Response('', { status: 404 }));
    const source = urlSource('https://models.test/a?token=secret');
    expect(source.url).toBe('https://models.test/a/');
    await expect(readFile(source, 'config.json', {})).rejects.not.toThrow(/secret/);
  });

  test('a network failure, before and within the body', async () => {
    answer(() => Promise.reject(new TypeError('Failed to fetch')));
    await expect(read()).rejects.toThrow(
      /Could not fetch https:\/\/models\.test\/a\/model\.safetensors: Failed to fetch/,
    );
    answer(() => new Response(new ReadableStream({ pull: (c) => c.error(new TypeError('network error')) })));
    const error = await read().catch((caught) => caught);
    expect(error).toBeInstanceOf(ModelFetchError);
    expect(error.message).toMatch(/model\.safetensors: network error/);
  });

  test("an error of the caller's own callback stays what it is, and ends the download", async () => {
    const mistake = new Error('bug in onBytes');
    const cancelled = vi.fn();
    answer(() => new Response(new ReadableStream({ pull: (c) => c.enqueue(bytes(10)), cancel: cancelled })));
    const onBytes = () => {
      throw mistake;
    };
    await expect(read({ onBytes })).rejects.toBe(mistake);
    expect(cancelled).toHaveBeenCalledOnce();
  });
});

describe('ranges', () => {
  const body = bytes(200_000);
  const range = { begin: 70_000, end: 140_000 };
  /** As servers do it that know ranges. */
  const answerRanges = (headers: Record<string, string> = {}) => {
    const asked: string[] = [];
    vi.stubGlobal('fetch', async (_: URL, init: { headers?: { range: string } }) => {
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(init.headers?.range ?? '') as unknown as string[];
      asked.push(`${first}-${last}`);
      const part = body.subarray(Number(first), Number(last) + 1);
      const known = { 'content-length': String(part.length), 'content-range': `bytes ${first}-${last}/${body.length}` };
      return new Response(chunked(part), { status: 206, headers: { ...known, ...headers } });
    });
    return asked;
  };

  test('only the bytes that are asked for', async () => {
    const asked = answerRanges();
    const reports: unknown[] = [];
    expectBytes(
      await read({ range, onBytes: (...report) => reports.push(report) }),
      body.subarray(range.begin, range.end),
    );
    expect(asked).toEqual(['70000-139999']);
    expect(reports.at(0)).toEqual([0, 70_000]);
    expect(reports.at(-1)).toEqual([70_000, 70_000]);
  });

  test('the end of the file within, at and before the range', async () => {
    answerRanges();
    expectBytes(await read({ range: { begin: 199_990, end: 300_000 } }), body.subarray(199_990));
    answer(() => new Response('', { status: 416 }));
    expectBytes(await read({ range: { begin: 200_000, end: 300_000 } }), new Uint8Array(0));
  });

  test('a server that knows no ranges sends everything, and is told to stop', async () => {
    const cancelled = vi.fn();
    let chunk = 0;
    const pull = (c: ReadableStreamDefaultController) => {
      c.enqueue(body.slice(chunk * 20_000, (chunk + 1) * 20_000));
      chunk += 1;
    };
    const stream = () => new ReadableStream({ pull, cancel: cancelled });
    answer(() => new Response(stream(), { headers: { 'content-length': '200000' } }));
    expectBytes(await read({ range }), body.subarray(range.begin, range.end));
    expect(cancelled).toHaveBeenCalledOnce();
    answer(() => respond(body));
    expectBytes(await read({ range: { begin: 0, end: 10 } }), body.subarray(0, 10));
    answer(() => respond(body, { 'content-length': '200000' }));
    expectBytes(await read({ range: { begin: 150_000, end: 300_000 } }), body.subarray(150_000));
    answer(() => respond(body, { 'content-length': '200000' }));
    expectBytes(await read({ range: { begin: 200_000, end: 300_000 } }), new Uint8Array(0));
  });

  test('another range than asked for, and a range that ends early', async () => {
    answerRanges({ 'content-range': 'bytes 0-69999/200000' });
    await expect(read({ range })).rejects.toThrow(/expected the bytes from 70000 on, got the range "bytes 0-69999/);
    answerRanges({ 'content-length': '110' });
    await expect(read({ range: { begin: 199_990, end: 200_100 } })).rejects.toThrow(
      /ended early: expected 110 bytes, got 10/,
    );
  });
});

describe('abort', () => {
  const reason = new Error('enough');

  test('before the request', async () => {
    const requests = answer(() => respond(bytes(1)));
    await expect(read({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(requests).toEqual([]);
  });

  test('while a server that ignores the signal does not answer', async () => {
    answer(() => new Promise<Response>(() => {}));
    const controller = new AbortController();
    const promise = read({ signal: controller.signal });
    controller.abort(reason);
    await expect(promise).rejects.toBe(reason);
  });

  test('while a body stalls: its stream is cancelled', async () => {
    const cancelled = vi.fn();
    answer(() => new Response(new ReadableStream({ start: (c) => c.enqueue(bytes(300)), cancel: cancelled })));
    const controller = new AbortController();
    const onBytes = () => setTimeout(() => controller.abort(reason), 1);
    await expect(read({ signal: controller.signal, onBytes })).rejects.toBe(reason);
    expect(cancelled).toHaveBeenCalledExactlyOnceWith(reason);
  });

  test('in a callback', async () => {
    answer(() => respond(bytes(1_000_000), { 'content-length': '1000000' }));
    const controller = new AbortController();
    await expect(read({ signal: controller.signal, onBytes: () => controller.abort(reason) })).rejects.toBe(reason);
  });

  test('a finished read leaves no listener behind', async () => {
    answer(() => respond(bytes(100_000), { 'content-length': '100000' }));
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, 'addEventListener');
    const removed = vi.spyOn(signal, 'removeEventListener');
    await read({ signal });
    expect(added.mock.calls.length).toBeGreaterThan(0);
    expect(removed.mock.calls.length).toBe(added.mock.calls.length);
  });
});
