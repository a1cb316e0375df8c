/** A server that knows ranges and versions, counts what it sends, and breaks off on demand. */
import { vi } from 'vitest';

export type ServedFile = { bytes: Uint8Array; etag?: string; lastModified?: string };
export type RangeServer = {
  files: Map<string, ServedFile>;
  /** Requests other than HEAD, as `file range`. */
  requests: string[];
  heads: string[];
  sentBytes: number;
  isOffline: boolean;
  knowsRanges: boolean;
  /** Bytes of the next bodies after which the connection breaks. */
  breakAfterBytes: number | null;
};

const CHUNK_BYTES = 65_536;

export function rangeServer(base: string, files: ReadonlyMap<string, Uint8Array>): RangeServer {
  const server: RangeServer = {
    files: new Map([...files].map(([name, bytes]) => [name, { bytes, etag: '"1"' }])),
    requests: [],
    heads: [],
    sentBytes: 0,
    isOffline: false,
    knowsRanges: true,
    breakAfterBytes: null,
  };
  const stream = (bytes: Uint8Array): ReadableStream<Uint8Array> => {
    let at = 0;
    const limit = server.breakAfterBytes ?? Number.POSITIVE_INFINITY;
    return new ReadableStream(
      {
        pull(controller) {
          if (at >= limit) return controller.error(new TypeError('network error'));
          if (at >= bytes.length) return controller.close();
          const chunk = bytes.slice(at, Math.min(at + CHUNK_BYTES, limit));
          at += chunk.length;
          server.sentBytes += chunk.length;
          controller.enqueue(chunk);
        },
      },
      { highWaterMark: 0 },
    );
  };
  vi.stubGlobal('fetch', async (input: URL | string, init: { method?: string; headers?: { range?: string } } = {}) => {
    const url = String(input);
    const name = url.slice(base.length).replace(/\?.*/, '');
    if (server.isOffline) throw new TypeError('Failed to fetch');
    if (init.method === 'HEAD') server.heads.push(name);
    else server.requests.push([name, init.headers?.range].filter(Boolean).join(' '));
    const file = url.startsWith(base) ? server.files.get(name) : undefined;
    if (file === undefined) return new Response('', { status: 404 });
    const { bytes, etag, lastModified } = file;
    const headers = { ...(etag && { etag }), ...(lastModified && { 'last-modified': lastModified }) };
    if (init.method === 'HEAD') return new Response(null, { headers });
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(init.headers?.range ?? '') ?? [];
    if (first === undefined || !server.knowsRanges) {
      return new Response(stream(bytes) as BodyInit, {
        headers: { ...headers, 'content-length': String(bytes.length) },
      });
    }
    if (Number(first) >= bytes.length) {
      return new Response('', { status: 416, headers: { 'content-range': `bytes */${bytes.length}` } });
    }
    const end = last ? Math.min(Number(last) + 1, bytes.length) : bytes.length;
    return new Response(stream(bytes.subarray(Number(first), end)) as BodyInit, {
      status: 206,
      headers: {
        ...headers,
        'content-length': String(end - Number(first)),
        'content-range': `bytes ${first}-${end - 1}/${bytes.length}`,
      },
    });
  });
  return server;
}
