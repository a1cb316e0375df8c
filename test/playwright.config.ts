/** End-to-end tests of the demo page, as built. `npm test` runs them; alone: `npx playwright test --config test/playwright.config.ts`. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from '@playwright/test';
import { launchOptions } from './browser.mjs';

const port = Number(process.env.FORETOKEN_DEMO_PORT ?? 4179);

export default defineConfig({
  testDir: './demo',
  testMatch: '*.spec.ts',
  outputDir: '../test-results',
  // One GPU, and timings are part of what is tested.
  workers: 1,
  fullyParallel: false,
  forbidOnly: Boolean(process.env.CI),
  // The slowest takes a minute on two idle cores; on busy ones this is no reason to fail.
  timeout: 400_000,
  expect: { timeout: 30_000 },
  reporter: [['list'], ['json', { outputFile: '../test-results/demo.json' }]],
  use: { baseURL: `http://localhost:${port}/`, browserName: 'chromium', launchOptions: launchOptions() },
  webServer: {
    command: `npx vite build && npx vite preview --port ${port} --strictPort`,
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    url: `http://localhost:${port}/`,
    timeout: 120_000,
    reuseExistingServer: !process.env.CI,
  },
});
