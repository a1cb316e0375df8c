import { fileURLToPath } from 'node:url';
import { playwright } from '@vitest/browser-playwright';
import { defineConfig } from 'vitest/config';
import { findBrowser, launchOptions } from './test/browser.mjs';

const publicDir = fileURLToPath(new URL('./demo/public', import.meta.url));
const gpuSpecs = ['test/gpu/**/*.spec.ts'];
/** Specs about the browser itself (workers, page events), which Node cannot run. */
const browserOnlySpecs = ['test/gpu/worker*.spec.ts', 'test/gpu/**/*.browser.spec.ts'];

// The config is read for the unit tests too, on machines without a browser: then launching fails, not reading.
const browser = findBrowser();

export default defineConfig({
  publicDir,
  test: {
    projects: [
      {
        extends: true,
        test: { name: 'unit', environment: 'node', include: ['test/unit/**/*.test.ts'], testTimeout: 60_000 },
      },
      {
        extends: true,
        // Without this list Vite finds a dependency late, reloads the page and loses the run.
        optimizeDeps: { include: ['comlink', '@huggingface/tokenizers', 'fast-check'] },
        test: {
          name: 'gpu',
          include: gpuSpecs,
          setupFiles: ['test/gpu/setup.ts'],
          // One GPU: files run one after another, each in a frame of its own.
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({ launchOptions: browser === null ? {} : launchOptions(browser) }),
            instances: [{ browser: 'chromium' }],
          },
        },
      },
      {
        extends: true,
        test: {
          name: 'lavapipe',
          environment: 'node',
          include: gpuSpecs,
          exclude: browserOnlySpecs,
          setupFiles: ['test/gpu/setup_node.ts', 'test/gpu/setup.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
