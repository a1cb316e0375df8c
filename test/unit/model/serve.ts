/** A server made of maps, for Node and browsers alike. */
import { vi } from 'vitest';
import type { Answer, FolderFiles } from './malformed_folders.ts';

export type Served = { files: FolderFiles; answers?: Record<string, Answer> };

/** Puts a server in the place of `fetch`: folder URL → files. Returns the list of requested URLs. */
export function serve(folders: Record<string, Served>): string[] {
  const requests: string[] = [];
  vi.stubGlobal('fetch', async (input: URL | string, init: { signal?: AbortSignal } = {}) => {
    const url = String(input);
    requests.push(url);
    init.signal?.throwIfAborted();
    const folder = Object.keys(folders).find((prefix) => url.startsWith(prefix));
    const file = url.slice(folder?.length ?? 0);
    const served = folder === undefined ? undefined : folders[folder];
    const answer = served?.answers?.[file] ?? {};
    const body = served?.files.get(file);
    if (answer.networkError) throw new TypeError('Failed to fetch');
    if (answer.status !== undefined) return new Response('broken', { status: answer.status });
    if (!body) return new Response('not here', { status: 404, statusText: 'Not Found' });
    return new Response(chunked(body), { headers: { 'content-length': String(answer.announcedBytes ?? body.length) } });
  });
  return requests;
}

/** As a network does it: in pieces of 64 KiB. */
export function chunked(body: Uint8Array): ReadableStream<Uint8Array<ArrayBuffer>> {
  let offset = 0;
  return new ReadableStream({
    pull(controller) {
      if (offset >= body.length) return controller.close();
      controller.enqueue(body.slice(offset, offset + 65_536));
      offset += 65_536;
    },
  });
}
