/** The demo page: `vite` serves it, `vite build` writes demo/dist, which any static server can carry under any path. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

export default defineConfig({
  root: path('./demo'),
  base: './',
  resolve: {
    // The page imports the package by its name, as anybody's would; here that name means the sources.
    alias: [
      { find: /^foretoken$/, replacement: path('./src/index.ts') },
      { find: /^foretoken\/engine$/, replacement: path('./src/engine.ts') },
    ],
  },
  // Found only once the worker runs, which would reload the page in the middle of loading a model.
  optimizeDeps: { include: ['comlink', '@huggingface/jinja', '@huggingface/tokenizers', 'uplot'] },
  worker: { format: 'es' },
  build: { outDir: path('./demo/dist'), emptyOutDir: true, target: 'es2022' },
  server: { host: 'localhost', open: Boolean(process.stdout.isTTY) && !process.env.CI, fs: { allow: [path('.')] } },
  preview: { host: 'localhost' },
});
