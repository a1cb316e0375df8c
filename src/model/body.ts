/** Reads the bytes of one file from a stream: length checks, progress, abort, memory. */
import { ModelFetchError } from '../errors.ts';

export type ReadOptions = {
  signal?: AbortSignal;
  /** First call with 0 once a length is known, then one per chunk, last with both numbers equal. */
  onBytes?: (loadedBytes: number, totalBytes: number | null) => void;
  /** A missing file is null instead of an error. */
  optional?: boolean;
  /** A larger file is refused, before its body is read where the server tells the length. */
  maxBytes?: number;
  /** Only the bytes from `begin` to before `end`; fewer where the file ends before. `begin` < `end`. */
  range?: { begin: number; end: number };
};

/** What a server, or a file of the user, answered. */
export type Body = {
  stream: ReadableStream<Uint8Array> | null;
  /** Bytes of the stream, as announced; null when unknown. */
  length: number | null;
  /** False where the announced length may be that of a compressed body. */
  isFirm: boolean;
  /** Bytes at the start of the stream that are not wanted, and how many after them are. */
  skip: number;
  take: number;
  /** The error of a stream that fails. */
  failure: (cause: string) => ModelFetchError;
};

const DEFAULT_MAX_BYTES = 2 ** 33;

export async function readBody(body: Body, label: string, options: ReadOptions): Promise<Uint8Array> {
  const { signal, onBytes, maxBytes = DEFAULT_MAX_BYTES } = options;
  const { stream, length, skip, take } = body;
  const wanted = length === null ? null : Math.max(0, Math.min(length - skip, take));
  if (wanted !== null && wanted > maxBytes) {
    stream?.cancel().catch(() => {});
    throw tooLargeError(label, wanted, maxBytes);
  }
  const reader = stream?.getReader();
  // A cancelled reader answers its pending read with `done`, so that an abort need not race with every chunk.
  const onAbort = () => reader?.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener('abort', onAbort, { once: true });
  const collector = createCollector(wanted, label);
  let streamed = 0;
  try {
    if (wanted !== null) onBytes?.(0, wanted);
    signal?.throwIfAborted();
    while (reader && collector.loadedBytes() < take) {
      const chunk = await readChunk(reader, body.failure, signal);
      if (!chunk) break;
      const part = chunk.subarray(Math.max(0, skip - streamed), Math.max(0, skip + take - streamed));
      streamed += chunk.length;
      if (part.length === 0) continue;
      collector.append(part);
      const loaded = collector.loadedBytes();
      if (loaded > maxBytes) throw tooLargeError(label, loaded, maxBytes);
      // A body longer than its announced length was compressed on the way: the total is not known after all.
      const total = wanted !== null && loaded <= wanted ? wanted : null;
      if (loaded !== total) onBytes?.(loaded, total);
    }
    if (streamed >= skip + take) reader?.cancel().catch(() => {}); // the rest is of no use
  } catch (error) {
    reader?.cancel().catch(() => {});
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
  const loaded = collector.loadedBytes();
  if (wanted !== null && loaded < wanted && body.isFirm) {
    throw new ModelFetchError(
      `${label} ended early: expected ${wanted} bytes, got ${loaded}. ` +
        'Try again; if it happens again, the copy on the server (or a proxy on the way) is truncated.',
    );
  }
  onBytes?.(loaded, loaded);
  return collector.finish();
}

/** Null at the end. Only a failure of the stream becomes a ModelFetchError, not one of the caller's own callbacks. */
async function readChunk(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  failure: Body['failure'],
  signal: AbortSignal | undefined,
): Promise<Uint8Array | null> {
  let result: ReadableStreamReadResult<Uint8Array>;
  try {
    result = await reader.read();
  } catch (error) {
    signal?.throwIfAborted();
    throw failure(error instanceof Error ? error.message : String(error));
  }
  signal?.throwIfAborted();
  return result.done ? null : result.value;
}

function tooLargeError(label: string, bytes: number, maxBytes: number): ModelFetchError {
  return new ModelFetchError(
    `${label} is too large: expected at most ${maxBytes} bytes, got ${bytes} or more. Check that the URL is the right one.`,
  );
}

/** Fills one buffer of the expected length; what does not fit, or has no expected length, is joined at the end. */
function createCollector(expectedBytes: number | null, label: string) {
  let buffer: Uint8Array | null = null;
  let filled = 0;
  let overflowBytes = 0;
  const overflow: Uint8Array[] = [];
  const reserve = (bytes: number) => {
    try {
      return new Uint8Array(bytes);
    } catch {
      throw new ModelFetchError(
        `Could not reserve ${bytes} bytes of memory for ${label}. Close other tabs, or use a smaller model.`,
      );
    }
  };
  return {
    loadedBytes: () => filled + overflowBytes,
    append(chunk: Uint8Array) {
      if (expectedBytes !== null && overflow.length === 0 && filled + chunk.length <= expectedBytes) {
        buffer ??= reserve(expectedBytes);
        buffer.set(chunk, filled);
        filled += chunk.length;
      } else {
        overflow.push(chunk);
        overflowBytes += chunk.length;
      }
    },
    finish(): Uint8Array {
      const start = buffer?.subarray(0, filled) ?? new Uint8Array(0);
      if (overflow.length === 0) return start;
      const joined = reserve(filled + overflowBytes);
      joined.set(start);
      let offset = filled;
      for (const chunk of overflow) {
        joined.set(chunk, offset);
        offset += chunk.length;
      }
      return joined;
    },
  };
}
