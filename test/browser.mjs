/**
 * Which Chromium the tests drive, and with which flags. Shared by Vitest, Playwright, the consumer tests and the bench.
 *
 *   FORETOKEN_ADAPTER=swiftshader   the CPU adapter, everywhere
 *   FORETOKEN_ADAPTER=gpu           the machine's GPU or failure, no fallback
 *   CHROMIUM_PATH=/path/to/chrome   this browser and no other
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { chromium } from '@playwright/test';

/** @typedef {{ channel?: 'chromium', executablePath?: string, label: string }} FoundBrowser */

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const missingBrowser =
  'No Chromium was found and none could be downloaded. Run `npx playwright install chromium`, ' +
  'or set CHROMIUM_PATH to a Chromium, Chrome or Edge executable.';

function systemCandidates() {
  const { env } = process;
  if (process.platform === 'darwin') {
    const apps = ['Chromium.app/Contents/MacOS/Chromium', 'Google Chrome.app/Contents/MacOS/Google Chrome'];
    return ['/Applications', `${env.HOME ?? ''}/Applications`].flatMap((dir) => apps.map((app) => join(dir, app)));
  }
  if (process.platform === 'win32') {
    const programs = ['Chromium\\Application\\chrome.exe', 'Google\\Chrome\\Application\\chrome.exe'];
    const edge = 'Microsoft\\Edge\\Application\\msedge.exe';
    return [env.LOCALAPPDATA, env.PROGRAMFILES, env['PROGRAMFILES(X86)']]
      .filter((dir) => dir !== undefined)
      .flatMap((dir) => [...programs, edge].map((program) => join(dir, program)));
  }
  // The binary before Debian's wrapper script would lose the wrapper's library path, so names on the PATH only.
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'];
  const folders = (env.PATH ?? '').split(':').concat('/usr/bin', '/usr/local/bin', '/snap/bin');
  return names.flatMap((name) => folders.filter((dir) => dir !== '').map((dir) => join(dir, name)));
}

/** @returns {FoundBrowser | null} */
function ownBrowser() {
  const path = chromium.executablePath();
  // `channel: 'chromium'` is the full browser in its new headless mode; the default headless shell has no GPU.
  return existsSync(path) ? { channel: 'chromium', label: `Playwright's Chromium (${path})` } : null;
}

/** @returns {FoundBrowser | null} */
function systemBrowser() {
  const path = systemCandidates().find((candidate) => existsSync(candidate));
  return path === undefined ? null : { executablePath: path, label: path };
}

/** @returns {FoundBrowser | null} */
function namedBrowser() {
  const path = process.env.CHROMIUM_PATH;
  if (path === undefined || path === '') return null;
  if (!existsSync(path))
    throw new Error(`Expected CHROMIUM_PATH to name an executable, got ${path}, which is not there.`);
  return { executablePath: path, label: path };
}

/** What is installed, without downloading: the named browser, Playwright's own, the system's. */
export function findBrowser() {
  return namedBrowser() ?? ownBrowser() ?? systemBrowser();
}

async function downloadAnswers() {
  // `playwright install` retries for minutes without a network; one request says as much in a moment.
  try {
    await fetch('https://cdn.playwright.dev/', { method: 'HEAD', signal: AbortSignal.timeout(5000) });
    return true;
  } catch {
    return false;
  }
}

/**
 * As findBrowser, but downloads Playwright's Chromium when it is not there. Not where that would be waste: on CI with a
 * system browser, or with PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD set. Throws with the one command that is missing.
 */
export async function ensureBrowser() {
  const found = namedBrowser() ?? ownBrowser();
  if (found !== null) return found;
  const system = systemBrowser();
  const skip = Boolean(process.env.PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD) || (system !== null && Boolean(process.env.CI));
  if (!skip && (await downloadAnswers())) {
    const cli = join(root, 'node_modules', '@playwright', 'test', 'cli.js');
    spawnSync(process.execPath, [cli, 'install', 'chromium', '--no-shell'], { stdio: 'inherit', timeout: 300_000 });
  }
  const browser = ownBrowser() ?? system;
  if (browser === null) throw new Error(missingBrowser);
  return browser;
}

/** The node where Linux exposes a GPU to programs; a machine without one has no driver for Chromium to find. */
function linuxHasGpu() {
  if (existsSync('/dev/nvidia0') || existsSync('/dev/dxg')) return true;
  return existsSync('/dev/dri') && readdirSync('/dev/dri').some((name) => name.startsWith('render'));
}

/** @returns {'gpu' | 'swiftshader'} */
export function adapterKind() {
  const wanted = process.env.FORETOKEN_ADAPTER ?? '';
  if (wanted === 'swiftshader' || wanted === 'gpu') return wanted;
  if (wanted !== '') throw new Error(`Expected FORETOKEN_ADAPTER to be 'swiftshader' or 'gpu', got '${wanted}'.`);
  return process.platform === 'linux' && !linuxHasGpu() ? 'swiftshader' : 'gpu';
}

function adapterFlags(kind = adapterKind()) {
  const flags = ['--enable-unsafe-webgpu', '--js-flags=--expose-gc'];
  if (kind === 'swiftshader') {
    flags.push('--use-webgpu-adapter=swiftshader');
  } else {
    flags.push('--ignore-gpu-blocklist');
    // Metal on macOS and D3D12 on Windows are Chromium's defaults; on Linux WebGPU needs Vulkan, which is not.
    if (process.platform === 'linux') {
      flags.push('--enable-features=Vulkan', '--use-vulkan=native', '--use-angle=vulkan', '--disable-vulkan-surface');
    }
  }
  // Chromium refuses its sandbox to root (containers, CI).
  if (process.getuid?.() === 0) flags.push('--no-sandbox', '--disable-gpu-sandbox');
  return flags;
}

/** Launch options for Playwright (`chromium.launch`, and `launchOptions` of its config and of Vitest's provider). */
export function launchOptions(browser = findBrowser(), kind = adapterKind()) {
  if (browser === null) throw new Error(missingBrowser);
  const { channel, executablePath } = browser;
  return {
    ...(channel === undefined ? {} : { channel }),
    ...(executablePath === undefined ? {} : { executablePath }),
    args: adapterFlags(kind),
    headless: true,
  };
}

/** What `navigator.gpu` answers in a browser started with these options, as one line; null without an adapter. */
async function probeAdapter(/** @type {FoundBrowser} */ browser, /** @type {'gpu' | 'swiftshader'} */ kind) {
  const instance = await chromium.launch(launchOptions(browser, kind));
  try {
    const page = await instance.newPage();
    // WebGPU exists in secure contexts only, which about:blank is not; nothing is fetched, the route answers.
    await page.route('http://localhost/', (route) =>
      route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }),
    );
    await page.goto('http://localhost/');
    return await page.evaluate(async () => {
      // A GPU process that cannot start leaves requestAdapter pending for ever.
      const silence = new Promise((resolve) => setTimeout(() => resolve(null), 10_000));
      // One that has just started may have none at first.
      const request = async () =>
        (await navigator.gpu?.requestAdapter()) ??
        (await new Promise((resolve) => setTimeout(resolve, 500)).then(() => navigator.gpu?.requestAdapter()));
      const adapter = /** @type {GPUAdapter | null | undefined} */ (await Promise.race([request(), silence]));
      if (!adapter) return null;
      const { vendor, architecture, device, description } = adapter.info;
      const line = [vendor, architecture, device, description].filter((part) => part !== '').join(' ');
      return { line, isCpu: adapter.info.isFallbackAdapter || /swiftshader|llvmpipe/i.test(line) };
    });
  } finally {
    await instance.close();
  }
}

/**
 * Finds out once what adapter the tests will run on, and sets FORETOKEN_ADAPTER for the processes started after. Where
 * a GPU seems to be there but answers nothing, the CPU adapter serves, unless FORETOKEN_ADAPTER=gpu says not to.
 */
export async function chooseAdapter(/** @type {FoundBrowser} */ browser) {
  const forced = Boolean(process.env.FORETOKEN_ADAPTER);
  /** @type {Array<'gpu' | 'swiftshader'>} */
  const kinds = adapterKind() === 'gpu' && !forced ? ['gpu', 'swiftshader'] : [adapterKind()];
  for (const kind of kinds) {
    const adapter = await probeAdapter(browser, kind);
    if (adapter === null || (kind === 'gpu' && adapter.isCpu)) continue;
    process.env.FORETOKEN_ADAPTER = kind;
    return { kind, line: adapter.line };
  }
  throw new Error(
    `Expected a WebGPU adapter (${kinds.join(', then ')}) from ${browser.label}, got none. ` +
      'Use a Chromium of version 121 or later; FORETOKEN_ADAPTER=swiftshader forces the CPU adapter.',
  );
}
