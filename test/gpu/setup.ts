/** Runs before every GPU spec file: names the adapter once per run, and fails where there is none. Never skips. */
import { afterAll, beforeAll } from 'vitest';
import { openSharedGpu, releaseSharedGpu } from './kernel_bench.ts';

// A browser whose GPU process cannot start leaves requestAdapter pending for ever.
const silence = new Promise<null>((resolve) => setTimeout(() => resolve(null), 20_000));
const answer = globalThis.navigator?.gpu?.requestAdapter({ powerPreference: 'high-performance' });
const adapter = await Promise.race([answer ?? null, silence]);
if (!adapter) {
  throw new Error(
    'Expected a WebGPU adapter, got none. In a browser: is navigator.gpu there, and does FORETOKEN_ADAPTER=swiftshader help? ' +
      'In Node (npm run test:lavapipe): is a Vulkan driver there (VK_DRIVER_FILES)?',
  );
}

// Spec files share no memory; in a browser the tab's sessionStorage remembers that the name was printed.
const storage = 'sessionStorage' in globalThis ? globalThis.sessionStorage : null;
const printed = storage?.getItem('foretoken-adapter') ?? null;
if (printed === null) {
  const { vendor, architecture, device, description } = adapter.info;
  const line = [vendor, architecture, device, description].filter((part) => part !== '').join(' ');
  console.log(`adapter: ${line}`);
  storage?.setItem('foretoken-adapter', line);
}

beforeAll(openSharedGpu);
afterAll(releaseSharedGpu);
