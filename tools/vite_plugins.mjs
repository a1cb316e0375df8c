/** The two things that Vite would do otherwise when it builds the package. */
import { readFileSync } from 'node:fs';

/** The expression by which every bundler finds the worker file. */
export const workerLine = "new Worker(new URL('./worker.js', import.meta.url), { type: 'module' })";
const placeholder = '__foretokenStartWorker__()';

/** Carries the worker line through the build unchanged. Vite would bundle a second worker and write its own expression. */
export function keepWorkerLine() {
  return /** @type {import('vite').Plugin} */ ({
    name: 'foretoken:keep-worker-line',
    enforce: 'pre',
    transform(code, id) {
      if (!id.endsWith('/src/client.ts')) return null;
      if (!code.includes(workerLine)) this.error(`Expected src/client.ts to contain \`${workerLine}\`.`);
      return { code: code.replace(workerLine, placeholder), map: null };
    },
    generateBundle(_options, files) {
      for (const file of Object.values(files)) {
        if (file.type === 'chunk') file.code = file.code.replace(placeholder, workerLine);
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
