/** The two things that Vite would do otherwise when it builds the package. */
import { readFileSync } from 'node:fs';

/** The expressions by which every bundler finds the worker file. */
export const workerLines = ['Worker', 'SharedWorker'].map(
  (name) => `new ${name}(new URL('./worker.js', import.meta.url), { type: 'module' })`,
);
const placeholder = (/** @type {number} */ i) => `__foretokenStartWorker${i}__()`;

/** Carries the worker lines through the build unchanged. Vite would bundle a second worker and write its own expressions. */
export function keepWorkerLines() {
  return /** @type {import('vite').Plugin} */ ({
    name: 'foretoken:keep-worker-lines',
    enforce: 'pre',
    transform(code, id) {
      if (!id.endsWith('/src/worker_start.ts')) return null;
      const missing = workerLines.find((line) => !code.includes(line));
      if (missing !== undefined) this.error(`Expected src/worker_start.ts to contain \`${missing}\`.`);
      return { code: workerLines.reduce((text, line, i) => text.replace(line, placeholder(i)), code), map: null };
    },
    generateBundle(_options, files) {
      for (const file of Object.values(files)) {
        if (file.type !== 'chunk') continue;
        file.code = workerLines.reduce((text, line, i) => text.replace(placeholder(i), line), file.code);
      }
    },
  });
}

/** WGSL as a string without comments and indentation. Lines stay where they were, so compiler messages fit the sources. */
export function inlineShaders() {
  return /** @type {import('vite').Plugin} */ ({
    name: 'foretoken:inline-shaders',
    enforce: 'pre',
    load(id) {
      if (!id.endsWith('.wgsl?raw')) return null;
      const lines = readFileSync(id.slice(0, -'?raw'.length), 'utf8').split(/\r?\n/);
      const bare = lines.map((line) => line.replace(/\/\/.*/, '').trim()).join('\n');
      return { code: `export default ${JSON.stringify(bare)};`, map: null };
    },
  });
}
