/** One file, or a range of it, from a server. */
import { ModelFetchError, ModelFormatError } from '../errors.ts';
import { abortable } from './abort.ts';
import { type FileStream, type OpenOptions, streamBody, streamOf } from './body.ts';
import { hubRemedy, isHubCommit, isHubUrl } from './hub.ts';
import { labelOf } from './model_url.ts';

/** What tells two states of a file apart. Other origins may hide either. */
export type FileVersion = { etag: string | null; lastModified: string | null };

export type UrlStream = FileStream & {
  version: FileVersion;
  /** Of the whole file, where that is certain. */
  fileBytes: number | null;
};

/** Null only for a missing optional file. A range may end at infinity. */
export async function openUrl(url: URL, file: string, options: OpenOptions): Promise<UrlStream | null> {
  const { signal, range, optional } = options;
  signal?.throwIfAborted();
  const label = labelOf(url);
  const failure = (cause: string) => networkError(label, cause);
  const last = range && Number.isFinite(range.end) ? range.end - 1 : '';
  const headers = range && { range: `bytes=${range.begin}-${last}` };
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
    if (range !== undefined && status === 416) {
      return { ...streamOf(new Uint8Array(0)), version: versionOf(response), fileBytes: totalOf(response) };
    }
    const code = response.headers.get('x-error-code');
    throw new ModelFetchError(
      `Could not fetch ${label}: expected status 200, got ${`${status} ${response.statusText}`.trim()}. ` +
        (isHubUrl(url) && status < 429 ? hubRemedy(url, status, code) : statusRemedy(status, file)),
    );
  }
  if (isPart) checkContentRange(response, range.begin, label);
  const length = contentLengthOf(response);
  // Across origins Content-Encoding is hidden, and compressing what does not compress makes it a little longer: there the
  // file's own format must tell whether it is complete. Browsers ask for ranges uncompressed.
  const isFirm = response.type !== 'cors' || isPart;
  const body = streamBody(
    {
      stream: response.body,
      length,
      isFirm,
      // A server without ranges sends the whole file.
      skip: range === undefined || isPart ? 0 : range.begin,
      take: range === undefined ? Number.POSITIVE_INFINITY : range.end - range.begin,
      failure,
    },
    label,
    options,
  );
  const whole = isFirm ? length : null;
  const stream = { ...body, version: versionOf(response), fileBytes: isPart ? totalOf(response) : whole };
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

/** Of a part: bytes of the whole file. Null when unknown. */
function totalOf(response: Response): number | null {
  const [, total] = /^bytes (?:\d+-\d+|\*)\/(\d+)$/.exec(response.headers.get('content-range') ?? '') ?? [];
  return total === undefined ? null : Number(total);
}

/** What stands for a compressed body, or a weak comparison, is no matter: the bytes that we get are not compressed. */
function versionOf({ headers }: Response): FileVersion {
  const etag = headers.get('etag')?.replace(/^W\//, '') ?? null;
  return { etag: etag?.replace(/[-;](gzip|br|zstd)"$/, '"') ?? null, lastModified: headers.get('last-modified') };
}

/** True or false where the two can be told apart or together, null where nothing is known of one of them. */
export function isSameVersion(a: FileVersion, b: FileVersion): boolean | null {
  if (a.etag !== null && b.etag !== null) return a.etag === b.etag;
  if (a.lastModified !== null && b.lastModified !== null) return a.lastModified === b.lastModified;
  return null;
}

const FRESHNESS_TIMEOUT_MS = 3000;

/** Asks the server whether it still has this version. Null where it does not tell, or is out of reach. */
export async function isCurrent(url: URL, version: FileVersion, signal?: AbortSignal): Promise<boolean | null> {
  if (isHubCommit(url) || globalThis.navigator?.onLine === false) return null;
  const timeout = AbortSignal.timeout(FRESHNESS_TIMEOUT_MS);
  try {
    // HEAD needs no preflight across origins, as a conditional GET would.
    const response = await globalThis.fetch(url, {
      method: 'HEAD',
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    return response.ok ? isSameVersion(version, versionOf(response)) : null;
  } catch {
    signal?.throwIfAborted();
    return null;
  }
}

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
