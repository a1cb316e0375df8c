/** Gives Node what the GPU specs find in a browser: `navigator.gpu` (Dawn, package `webgpu`) and the model files by path. */
import { openAsBlob } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { create, globals } from 'webgpu';

type DawnGlobal = typeof globalThis & { foretokenDawn?: GPU };
const dawn = globalThis as DawnGlobal;

if (dawn.foretokenDawn === undefined) {
  Object.assign(globalThis, globals);
  // Kept in a global: the process crashes when the instance is garbage-collected while a device lives.
  dawn.foretokenDawn = create([]);
  const navigator = globalThis.navigator ?? {};
  Object.defineProperty(navigator, 'gpu', { value: dawn.foretokenDawn, configurable: true });
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });

  const root = new URL('../../', import.meta.url);
  const networkFetch = globalThis.fetch;
  globalThis.fetch = async (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    const path = /^(?:https?:\/\/localhost(?::\d+)?)?\/((?:test\/nightly\/)?models\/.*)$/.exec(url)?.[1];
    if (path === undefined) return networkFetch(input, init);
    init?.signal?.throwIfAborted();
    let file: Blob;
    try {
      // As the test server has it: public files, and those of the repository by their path.
      file = await openAsBlob(fileURLToPath(new URL(path.startsWith('test/') ? path : `demo/public/${path}`, root)));
    } catch {
      return new Response('not found', { status: 404 });
    }
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(new Headers(init?.headers).get('range') ?? '') ?? [];
    const [begin, end] = [Number(first ?? 0), last ? Math.min(Number(last) + 1, file.size) : file.size];
    const isPart = first !== undefined && begin < file.size;
    return new Response(isPart ? file.slice(begin, end).stream() : file.stream(), {
      status: isPart ? 206 : 200,
      headers: {
        'content-length': String(isPart ? end - begin : file.size),
        ...(isPart && { 'content-range': `bytes ${begin}-${end - 1}/${file.size}` }),
      },
    });
  };
}
