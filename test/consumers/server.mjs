/** A static server for one folder, with the demo's models under /models/ and any headers asked for. */
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

/** @type {Record<string, string>} */
const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.css': 'text/css',
};

function fileOf(/** @type {string} */ folder, /** @type {string} */ pathname) {
  const path = join(folder, normalize(pathname.endsWith('/') ? `${pathname}index.html` : pathname));
  try {
    return path.startsWith(folder) && statSync(path).isFile() ? path : null;
  } catch {
    return null;
  }
}

/** @returns {Promise<{ url: string, close: () => Promise<void> }>} */
export async function serveFolder(
  /** @type {string} */ folder,
  /** @type {string} */ publicFolder,
  /** @type {Record<string, string>} */ headers = {},
) {
  const server = createServer((request, response) => {
    const pathname = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
    const file = fileOf(pathname.startsWith('/models/') ? publicFolder : folder, pathname);
    if (file === null) {
      response.writeHead(404).end('not found');
      return;
    }
    const type = types[extname(file)] ?? 'application/octet-stream';
    response.writeHead(200, { 'content-type': type, 'content-length': statSync(file).size, ...headers });
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, 'localhost', () => resolve(null)));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('Expected a TCP port.');
  return {
    url: `http://localhost:${address.port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
