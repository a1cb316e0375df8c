import { fileURLToPath } from 'node:url';
import { playwright } from '@vitest/browser-playwright';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { findBrowser, launchOptions } from './test/browser.mjs';
import { firefox } from './test/firefox.mjs';

const publicDir = fileURLToPath(new URL('./demo/public', import.meta.url));
const gpuSpecs = ['test/gpu/**/*.spec.ts'];
/** What takes longer than anyone wants to wait for at every change. */
const nightlySpecs = ['test/nightly/**/*.spec.ts'];
/** Specs about the browser itself (workers, page events), which Node cannot run. */
const browserOnlySpecs = ['test/gpu/worker*.spec.ts', 'test/gpu/**/*.browser.spec.ts', 'test/nightly/soak.spec.ts'];

/** Specs that ask the browser's debugger or garbage collector. */
const chromiumOnlySpecs = ['test/gpu/soak.browser.spec.ts', 'test/gpu/device.browser.spec.ts'];

// The config is read for the unit tests too, on machines without a browser: then launching fails, not reading.
const browser = findBrowser();

// One GPU: files run one after another, in a browser in one frame, for what is compiled for one to serve the next.
const gpuTest = (timeout: number) => ({ fileParallelism: false, testTimeout: timeout, hookTimeout: timeout });

const inChromium = (name: string, include: string[], timeout: number): TestProjectInlineConfiguration => ({
  extends: true,
  // Without this list Vite finds a dependency late, reloads the page and loses the run.
  optimizeDeps: { include: ['comlink', '@huggingface/jinja', '@huggingface/tokenizers', 'fast-check'] },
  test: {
    name,
    include,
    setupFiles: ['test/gpu/setup.ts'],
    ...gpuTest(timeout),
    isolate: false,
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({ launchOptions: browser === null ? {} : launchOptions(browser) }),
      instances: [{ browser: 'chromium' }],
    },
  },
});

const inFirefox = (name: string, include: string[], timeout: number): TestProjectInlineConfiguration => {
  const { test, ...rest } = inChromium(name, include, timeout);
  return {
    ...rest,
    test: {
      ...test,
      exclude: chromiumOnlySpecs,
      browser: { ...test?.browser, provider: firefox(), instances: [{ browser: 'firefox' }] },
    },
  };
};

const inNode = (name: string, include: string[], timeout: number): TestProjectInlineConfiguration => ({
  extends: true,
  test: {
    name,
    environment: 'node',
    include,
    exclude: browserOnlySpecs,
    setupFiles: ['test/gpu/setup_node.ts', 'test/gpu/setup_lavapipe.ts', 'test/gpu/setup.ts'],
    ...gpuTest(timeout),
  },
});

export default defineConfig({
  publicDir,
  test: {
    projects: [
      {
        extends: true,
        test: { name: 'unit', environment: 'node', include: ['test/unit/**/*.test.ts'], testTimeout: 60_000 },
      },
      inChromium('gpu', gpuSpecs, 240_000),
      inFirefox('firefox', gpuSpecs, 240_000),
      inNode('lavapipe', gpuSpecs, 240_000),
      inChromium('nightly', nightlySpecs, 1_200_000),
      inNode('nightly-lavapipe', nightlySpecs, 1_200_000),
    ],
  },
});
