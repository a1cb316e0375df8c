/** The bytes of one file from a stream: length checks, progress, abort, memory. */
import { ModelFetchError } from '../errors.ts';

export type OpenOptions = {
  signal?: AbortSignal;
  /** A missing file is null instead of an error. */
  optional?: boolean;
  /** A larger file is refused, before its body is read where the server tells the length. */
  maxBytes?: number;
  /** Only the bytes from `begin` to before `end`; fewer where the file ends before. `begin` < `end`. */
  range?: { begin: number; end: number };
};

/** First call with 0 once a length is known, then one per chunk, last with both numbers equal. */
export type OnBytes = (loadedBytes: number, totalBytes: number | null) => void;

export type ReadOptions = OpenOptions & { onBytes?: OnBytes };

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

/** Bytes on their way. Iterate them to the end, or `return()` them, which ends the download. */
export type FileStream = {
  /** Bytes to come, as announced; null when unknown. */
  length: number | null;
  /** False where the announced length may be that of a compressed body. */
  isFirm: boolean;
  chunks: AsyncGenerator<Uint8Array, void, void>;
  /** Nobody else has the chunks: their memory may be freed once they are read. Default false. */
  isDisposable?: boolean;
};

export function streamOf(bytes: Uint8Array): FileStream {
  async function* chunks(): FileStream['chunks'] {
    if (bytes.length > 0) yield bytes;
  }
  return { length: bytes.length, isFirm: true, chunks: chunks() };
}

const DEFAULT_MAX_BYTES = 2 ** 33;

export function streamBody(body: Body, label: string, { signal, maxBytes }: OpenOptions): FileStream {
  const { stream, length: announced, skip, take, isFirm } = body;
  const length = announced === null ? null : Math.max(0, Math.min(announced - skip, take));
  const limit = maxBytes ?? DEFAULT_MAX_BYTES;
  if (length !== null && length > limit) {
    stream?.cancel().catch(() => {});
    throw tooLargeError(label, length, limit);
  }
  return { length, isFirm, chunks: readChunks(body, length, limit, label, signal), isDisposable: true };
}

async function* readChunks(
  { stream, skip, take, isFirm, failure }: Body,
  length: number | null,
  maxBytes: number,
  label: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, void> {
  const reader = stream?.getReader();
  // A cancelled reader answers its pending read with `done`, so that an abort need not race with every chunk.
  const onAbort = () => reader?.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener('abort', onAbort, { once: true });
  let streamed = 0;
  let loaded = 0;
  try {
    signal?.throwIfAborted();
    while (reader && loaded < take) {
      const chunk = await readChunk(reader, failure, signal);
      if (!chunk) break;
      const part = chunk.subarray(Math.max(0, skip - streamed), Math.max(0, skip + take - streamed));
      streamed += chunk.length;
      loaded += part.length;
      if (loaded > maxBytes) throw tooLargeError(label, loaded, maxBytes);
      if (part.length > 0) yield part;
      signal?.throwIfAborted();
    }
    if (length !== null && loaded < length && isFirm) {
      throw new ModelFetchError(
        `${label} ended early: expected ${length} bytes, got ${loaded}. ` +
          'Try again; if it happens again, the copy on the server (or a proxy on the way) is truncated.',
      );
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    // The rest, if there is any, is of no use.
    reader?.cancel().catch(() => {});
  }
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

/** The same stream, which reports the bytes that pass. */
export function counted(stream: FileStream, onBytes: OnBytes | undefined): FileStream {
  if (onBytes === undefined) return stream;
  return { ...stream, chunks: countChunks(stream, onBytes) };
}

async function* countChunks({ chunks, length }: FileStream, onBytes: OnBytes): FileStream['chunks'] {
  let loaded = 0;
  try {
    if (length !== null) onBytes(0, length);
    for await (const chunk of chunks) {
      loaded += chunk.length;
      // A body longer than its announced length was compressed on the way: the total is not known after all.
      const total = length !== null && loaded <= length ? length : null;
      if (loaded !== total) onBytes(loaded, total);
      yield chunk;
    }
    onBytes(loaded, loaded);
  } finally {
    await chunks.return();
  }
}

/** All bytes of a stream, in one array of its length where that is known. */
export async function collect({ chunks, length }: FileStream, label: string): Promise<Uint8Array> {
  const collector = createCollector(length, label);
  for await (const chunk of chunks) collector.append(chunk);
  return collector.finish();
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
