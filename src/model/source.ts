import { InvalidOptionError, ModelFetchError, ModelFormatError } from '../errors.ts';

export type ReadOptions = {
  signal?: AbortSignal;
  /** First call with 0 once a length is known, then one per chunk, last with both numbers equal. */
  onBytes?: (loadedBytes: number, totalBytes: number | null) => void;
  /** A missing file is null instead of an error. */
  optional?: boolean;
  /** A larger file is refused, before its body is read where the server tells the length. */
  maxBytes?: number;
};

/** Where the files of one model come from. */
export type ModelSource = {
  /** Folder URL, ending in a slash and without its query (which may hold a secret): `url + file` names a file in errors. */
  url: string;
  /** Null only for a missing optional file. */
  read(file: string, options: ReadOptions): Promise<Uint8Array | null>;
};

const DEFAULT_MAX_BYTES = 2 ** 33;

/** A folder in the Hugging Face layout behind a URL. A relative `url` is taken from `baseUrl`, by default the page. */
export function folderSource(url: string, baseUrl?: string): ModelSource {
  const folder = parseFolderUrl(url, baseUrl);
  return {
    url: labelOf(folder),
    read: (file, options) => {
      const fileUrl = new URL(folder);
      fileUrl.pathname += file;
      return fetchFile(fileUrl, file, options, looksLikeHubId(url));
    },
  };
}

function parseFolderUrl(url: string, baseUrl: string | undefined): URL {
  const expected = 'Expected the URL of a folder that holds config.json, model.safetensors and tokenizer.json';
  if (typeof url !== 'string' || url.trim() === '') {
    throw new InvalidOptionError(`${expected}, got ${JSON.stringify(url) ?? typeof url}.`);
  }
  const base = baseUrl ?? (globalThis.location as Location | undefined)?.href;
  let folder: URL;
  try {
    folder = new URL(url, base);
  } catch {
    const remedy =
      base === undefined ? ' There is no page to resolve a relative URL against: pass an absolute one.' : '';
    throw new InvalidOptionError(`${expected}, got ${JSON.stringify(url)}, which is no valid URL.${remedy}`);
  }
  // `C:\model` parses as a URL of scheme "c:".
  if (/^[a-z]:$/.test(folder.protocol) || ['file:', 'data:', 'blob:', 'javascript:'].includes(folder.protocol)) {
    throw new InvalidOptionError(
      `${expected}, got ${JSON.stringify(url)}, which cannot be fetched. Serve the folder over HTTP and pass that URL.`,
    );
  }
  if (folder.username !== '' || folder.password !== '') {
    throw new InvalidOptionError(
      `${expected}, got one with a user name in it, which browsers refuse to fetch. Remove it.`,
    );
  }
  if (/\.(safetensors|gguf|json|bin|onnx|pt|pth)\/?$/i.test(folder.pathname)) {
    throw new InvalidOptionError(`${expected}, got a file, ${JSON.stringify(url)}. Pass its folder instead.`);
  }
  folder.hash = '';
  if (!folder.pathname.endsWith('/')) folder.pathname += '/';
  return folder;
}

const looksLikeHubId = (url: string) => /^[\w.-]+\/[\w.-]+$/.test(url) && !url.startsWith('.');

async function fetchFile(url: URL, file: string, options: ReadOptions, hubId: boolean): Promise<Uint8Array | null> {
  const { signal } = options;
  signal?.throwIfAborted();
  const label = labelOf(url);
  let response: Response;
  try {
    response = await abortable(globalThis.fetch(url, signal ? { signal } : {}), signal);
  } catch (error) {
    throw networkError(label, error, signal);
  }
  if (response.status !== 200 && response.status !== 203) {
    // Not awaited: nobody needs the page that explains a 404, and a dead connection must not hold up the error.
    response.body?.cancel().catch(() => {});
    if (options.optional && (response.status === 404 || response.status === 410)) return null;
    throw new ModelFetchError(
      `Could not fetch ${label}: expected status 200, got ${`${response.status} ${response.statusText}`.trim()}. ` +
        statusRemedy(response.status, file) +
        (hubId ? hubIdRemedy : ''),
    );
  }
  const body = await readBody(response, label, options);
  if (isHtml(body)) {
    // Servers of single-page apps answer every unknown path with status 200 and index.html.
    if (options.optional) return null;
    throw new ModelFormatError(
      `${label} is an HTML page, expected ${file}. The server probably answers unknown paths with its start page: ` +
        `check the folder URL and that ${file} is deployed there.${hubId ? hubIdRemedy : ''}`,
    );
  }
  return body;
}

const hubIdRemedy = ' Repository ids are not resolved: pass https://huggingface.co/<id>/resolve/main/ instead.';

function statusRemedy(status: number, file: string): string {
  if (status === 401 || status === 403) return 'The server wants a login or forbids this file: use a public URL.';
  if (status === 429 || status >= 500) return 'The server is overloaded or broken: try again later.';
  if (file.endsWith('.safetensors')) {
    return `Check that the folder holds ${file}: weights in several files (model.safetensors.index.json) must be merged.`;
  }
  return `Check the folder URL and that it holds ${file}.`;
}

/** Origin and path: a query may carry a token, and errors end up in logs. */
const labelOf = (url: URL) => url.href.replace(/[?#].*$/, '');

function networkError(label: string, error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason;
  const cause = error instanceof Error ? error.message : String(error);
  return new ModelFetchError(
    `Could not fetch ${label}: ${cause}. Check the address and the connection; another origin must allow this page ` +
      '(Access-Control-Allow-Origin), and the page its connect-src.',
  );
}

/** Settles with `promise`, or rejects with the signal's reason at once, even if what is awaited ignores the signal. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

async function readBody(response: Response, label: string, options: ReadOptions): Promise<Uint8Array> {
  const { signal, onBytes, maxBytes = DEFAULT_MAX_BYTES } = options;
  const contentLength = contentLengthOf(response);
  if (contentLength !== null && contentLength > maxBytes) {
    response.body?.cancel().catch(() => {});
    throw tooLargeError(label, contentLength, maxBytes);
  }
  const reader = response.body?.getReader();
  // A cancelled reader answers its pending read with `done`, so that an abort need not race with every chunk.
  const onAbort = () => reader?.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener('abort', onAbort, { once: true });
  const collector = createCollector(contentLength, label);
  try {
    if (contentLength !== null) onBytes?.(0, contentLength);
    signal?.throwIfAborted();
    while (reader) {
      const chunk = await readChunk(reader, label, signal);
      if (!chunk) break;
      collector.append(chunk);
      const loaded = collector.loadedBytes();
      if (loaded > maxBytes) throw tooLargeError(label, loaded, maxBytes);
      // A body longer than its announced length was compressed on the way: the total is not known after all.
      const total = contentLength !== null && loaded <= contentLength ? contentLength : null;
      if (loaded !== total) onBytes?.(loaded, total);
    }
  } catch (error) {
    reader?.cancel().catch(() => {});
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
  const loaded = collector.loadedBytes();
  // Across origins Content-Encoding is hidden, and compressing what does not compress makes it a little longer: there
  // the file's own format must tell whether it is complete.
  if (contentLength !== null && loaded < contentLength && response.type !== 'cors') {
    throw new ModelFetchError(
      `${label} ended early: expected ${contentLength} bytes, got ${loaded}. ` +
        'Try again; if it happens again, the copy on the server (or a proxy on the way) is truncated.',
    );
  }
  onBytes?.(loaded, loaded);
  return collector.finish();
}

/** Null at the end. Only a failure of the network becomes a ModelFetchError, not one of the caller's own callbacks. */
async function readChunk(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  label: string,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | null> {
  let result: ReadableStreamReadResult<Uint8Array>;
  try {
    result = await reader.read();
  } catch (error) {
    throw networkError(label, error, signal);
  }
  signal?.throwIfAborted();
  return result.done ? null : result.value;
}

function tooLargeError(label: string, bytes: number, maxBytes: number): ModelFetchError {
  return new ModelFetchError(
    `${label} is too large: expected at most ${maxBytes} bytes, got ${bytes} or more. Check that the URL is the right one.`,
  );
}

/** Null when unknown. With a Content-Encoding the header counts compressed bytes, which we never see. */
function contentLengthOf(response: Response): number | null {
  const encoding = response.headers.get('content-encoding')?.trim().toLowerCase() ?? '';
  const text = response.headers.get('content-length')?.trim() ?? '';
  if ((encoding !== '' && encoding !== 'identity') || !/^\d+$/.test(text)) return null;
  const length = Number(text);
  return Number.isSafeInteger(length) ? length : null;
}

/** Fills one buffer of the announced length; what does not fit, or has no announced length, is joined at the end. */
function createCollector(contentLength: number | null, label: string) {
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
      if (contentLength !== null && overflow.length === 0 && filled + chunk.length <= contentLength) {
        buffer ??= reserve(contentLength);
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

/** No JSON file and no safetensors header begins like this (there, bytes 3 to 8 are zero). */
function isHtml(body: Uint8Array): boolean {
  const start = new TextDecoder().decode(body.subarray(0, 256));
  return /^\s*<(!doctype|html|head|body|!--|\?xml)/i.test(start);
}
