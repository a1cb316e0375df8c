/** Gives Node what the GPU specs find in a browser: `navigator.gpu` (Dawn, package `webgpu`) and the model files by path. */
import { readFile } from 'node:fs/promises';
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

  const publicDir = new URL('../../demo/public/', import.meta.url);
  const networkFetch = globalThis.fetch;
  globalThis.fetch = async (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    const path = /^(?:https?:\/\/localhost(?::\d+)?)?\/(models\/.*)$/.exec(url)?.[1];
    if (path === undefined) return networkFetch(input, init);
    init?.signal?.throwIfAborted();
    try {
      const bytes = await readFile(fileURLToPath(new URL(path, publicDir)));
      return new Response(bytes, { headers: { 'content-length': String(bytes.byteLength) } });
    } catch {
      return new Response('not found', { status: 404 });
    }
  };
}
