/** Where a model is, from what the caller wrote. */
import { InvalidOptionError } from '../errors.ts';
import { hubFolderUrl, hubUrlFault } from './hub.ts';

/** A folder URL that ends in a slash, or the URL of a GGUF file. */
export function parseModelUrl(target: string, baseUrl: string | undefined): URL {
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

/** Origin and path: a query may carry a token, and errors end up in logs. */
export const labelOf = (url: URL) => url.href.replace(/[?#].*$/, '');
