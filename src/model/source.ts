import { InvalidOptionError, ModelFetchError, ModelFormatError } from '../errors.ts';
import { abortable } from './abort.ts';
import { collect, counted, type FileStream, type OpenOptions, type ReadOptions, streamBody, streamOf } from './body.ts';
import { hubFolderUrl, hubRemedy, hubUrlFault, isHubUrl } from './hub.ts';

/** Where the files of one model come from. */
export type ModelSource = {
  /** Folder URL, ending in a slash and without its query (which may hold a secret): `url + file` names a file in errors. */
  url: string;
  /** Name of the only file, where the model is one GGUF file. */
  gguf?: string;
  /** The bytes of a file as they come. Null only for a missing optional file. */
  open(file: string, options: OpenOptions): Promise<FileStream | null>;
};

/** All of a file that fits into memory. Null only for a missing optional file. */
export async function readFile(
  source: ModelSource,
  file: string,
  { onBytes, ...options }: ReadOptions,
): Promise<Uint8Array | null> {
  const stream = await source.open(file, options);
  return stream && collect(counted(stream, onBytes), source.url + file);
}

/**
 * A model on a server: a hub repository id, or the URL of a folder in the Hugging Face layout or of a GGUF file. A
 * relative URL is taken from `baseUrl`, by default the page.
 */
export function urlSource(target: string, baseUrl?: string): ModelSource {
  const url = parseUrl(target, baseUrl);
  const [, folderPath, gguf] = /^(.*\/)([^/]*)$/.exec(url.pathname) as unknown as [string, string, string];
  const fileUrl = (file: string): URL => {
    const result = new URL(url);
    result.pathname = folderPath + file;
    return result;
  };
  return {
    url: labelOf(fileUrl('')),
    ...(gguf === '' ? {} : { gguf }),
    open: (file, options) => openUrl(fileUrl(file), file, options),
  };
}

/** A folder URL that ends in a slash, or the URL of a GGUF file. */
function parseUrl(target: string, baseUrl: string | undefined): URL {
  const expected =
    'Expected a Hugging Face repository id, the URL of a folder that holds config.json, model.safetensors and ' +
    'tokenizer.json, or that of a .gguf file';
  const refuse = (fault: string) =>
    new InvalidOptionError(`${expected}, got ${JSON.stringify(target) ?? typeof target}${fault}`);
  if (typeof target !== 'string' || target.trim() === '') throw refuse('.');
  const base = baseUrl ?? (globalThis.location as Location | undefined)?.href;
  let url: URL;
  try {
    url = new URL(hubFolderUrl(target) ?? target, base);
  } catch {
    const remedy =
      base === undefined ? ' There is no page to resolve a relative URL against: pass an absolute one.' : '';
    throw refuse(`, which is no valid URL.${remedy}`);
  }
  // `C:\model` parses as a URL of scheme "c:".
  if (/^[a-z]:$/.test(url.protocol) || ['file:', 'data:', 'blob:', 'javascript:'].includes(url.protocol)) {
    throw refuse(
      ', which cannot be fetched. Serve it over HTTP and pass that URL, or pass the File that the user chose.',
    );
  }
  if (url.username !== '' || url.password !== '') {
    throw new InvalidOptionError(
      `${expected}, got one with a user name in it, which browsers refuse to fetch. Remove it.`,
    );
  }
  const fault = hubUrlFault(url);
  if (fault !== null) throw refuse(`, ${fault}`);
  if (/\.(safetensors|json|bin|onnx|pt|pth)\/?$/i.test(url.pathname)) {
    throw refuse(', a file of another kind. Pass its folder instead.');
  }
  url.hash = '';
  if (!url.pathname.endsWith('/') && !/\.gguf$/i.test(url.pathname)) url.pathname += '/';
  return url;
}

async function openUrl(url: URL, file: string, options: OpenOptions): Promise<FileStream | null> {
  const { signal, range, optional } = options;
  signal?.throwIfAborted();
  const label = labelOf(url);
  const failure = (cause: string) => networkError(label, cause);
  const headers = range && { range: `bytes=${range.begin}-${range.end - 1}` };
  let response: Response;
  try {
    const request = globalThis.fetch(url, { ...(signal && { signal }), ...(headers && { headers }) });
    response = await abortable(request, signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw failure(error instanceof Error ? error.message : String(error));
  }
  const { status } = response;
  const isPart = range !== undefined && status === 206;
  if (status !== 200 && status !== 203 && !isPart) {
    // Not awaited: nobody needs the page that explains a 404, and a dead connection must not hold up the error.
    response.body?.cancel().catch(() => {});
    if (optional && (status === 404 || status === 410)) return null;
    // The range begins behind the end of the file.
    if (range !== undefined && status === 416) return streamOf(new Uint8Array(0));
    const code = response.headers.get('x-error-code');
    throw new ModelFetchError(
      `Could not fetch ${label}: expected status 200, got ${`${status} ${response.statusText}`.trim()}. ` +
        (isHubUrl(url) && status < 429 ? hubRemedy(url, status, code) : statusRemedy(status, file)),
    );
  }
  if (isPart) checkContentRange(response, range.begin, label);
  const stream = streamBody(
    {
      stream: response.body,
      length: contentLengthOf(response),
      // Across origins Content-Encoding is hidden, and compressing what does not compress makes it a little longer:
      // there the file's own format must tell whether it is complete.
      isFirm: response.type !== 'cors',
      // A server without ranges sends the whole file.
      skip: range === undefined || isPart ? 0 : range.begin,
      take: range === undefined ? Number.POSITIVE_INFINITY : range.end - range.begin,
      failure,
    },
    label,
    options,
  );
  if ((range?.begin ?? 0) > 0) return stream;
  const { start, chunks } = await peek(stream.chunks, HTML_START_BYTES);
  if (!isHtml(start)) return { ...stream, chunks };
  await chunks.return();
  // Servers of single-page apps answer every unknown path with status 200 and index.html.
  if (optional) return null;
  throw new ModelFormatError(
    `${label} is an HTML page, expected ${file}. The server probably answers unknown paths with its start page: ` +
      `check the URL and that ${file} is deployed there.`,
  );
}

const HTML_START_BYTES = 256;

/** The first bytes (a few more or, at the end, fewer), and the same chunks once more from the start. */
async function peek(chunks: FileStream['chunks'], count: number) {
  const first: Uint8Array[] = [];
  let seen = 0;
  while (seen < count) {
    const result = await chunks.next();
    if (result.done) break;
    first.push(result.value);
    seen += result.value.length;
  }
  const start = new Uint8Array(seen);
  let at = 0;
  for (const chunk of first) {
    start.set(chunk, at);
    at += chunk.length;
  }
  async function* again(): FileStream['chunks'] {
    try {
      yield* first;
      yield* chunks;
    } finally {
      await chunks.return();
    }
  }
  return { start, chunks: again() };
}

function networkError(label: string, cause: string): ModelFetchError {
  return new ModelFetchError(
    `Could not fetch ${label}: ${cause}. Check the address and the connection; another origin must allow this page ` +
      '(Access-Control-Allow-Origin), and the page its connect-src.',
  );
}

function statusRemedy(status: number, file: string): string {
  if (status === 401 || status === 403) return 'The server wants a login or forbids this file: use a public URL.';
  if (status === 429 || status >= 500) return 'The server is overloaded or broken: try again later.';
  if (file === 'model.safetensors') {
    return `Check that the folder holds ${file}, or model.safetensors.index.json and the files that it names.`;
  }
  if (/\.gguf$/i.test(file)) return 'Check the URL.';
  return `Check the folder URL and that it holds ${file}.`;
}

/** Other origins may hide the header; the file's own format must do then. */
function checkContentRange(response: Response, begin: number, label: string): void {
  const given = response.headers.get('content-range');
  if (given === null || Number(/^bytes (\d+)-/.exec(given)?.[1]) === begin) return;
  response.body?.cancel().catch(() => {});
  throw new ModelFetchError(
    `Could not fetch ${label}: expected the bytes from ${begin} on, got the range ${JSON.stringify(given.slice(0, 60))}. ` +
      'The server (or a proxy on the way) answers range requests wrongly: use another.',
  );
}

/** Origin and path: a query may carry a token, and errors end up in logs. */
const labelOf = (url: URL) => url.href.replace(/[?#].*$/, '');

/** Null when unknown. With a Content-Encoding the header counts compressed bytes, which we never see. */
function contentLengthOf(response: Response): number | null {
  const encoding = response.headers.get('content-encoding')?.trim().toLowerCase() ?? '';
  const text = response.headers.get('content-length')?.trim() ?? '';
  if ((encoding !== '' && encoding !== 'identity') || !/^\d+$/.test(text)) return null;
  const length = Number(text);
  return Number.isSafeInteger(length) ? length : null;
}

/** No JSON file, no GGUF file and no safetensors header begins like this (there, bytes 3 to 8 are zero). */
function isHtml(bytes: Uint8Array): boolean {
  const start = new TextDecoder().decode(bytes.subarray(0, HTML_START_BYTES));
  return /^\s*<(!doctype|html|head|body|!--|\?xml)/i.test(start);
}
