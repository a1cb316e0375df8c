/**
 * `npm test`: types, lint, unit tests; the GPU tests and the demo page in Chromium; the package in other people's
 * projects. `node test/run.mjs unit gpu` runs those parts only. The last line sums up, and a part without a test fails.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { chooseAdapter, ensureBrowser } from './browser.mjs';

/** @typedef {{ passed: number, failed: number }} Count */

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const reports = mkdtempSync(join(tmpdir(), 'foretoken-test-'));
/** A part that hangs fails; the slowest takes some eight minutes on two idle cores, twice that on busy ones. */
const partLimitMs = 25 * 60_000;

const modules = join(root, 'node_modules');
const tools = {
  tsc: join(modules, 'typescript', 'bin', 'tsc'),
  biome: join(modules, '@biomejs', 'biome', 'bin', 'biome'),
  vitest: join(modules, 'vitest', 'vitest.mjs'),
  playwright: join(modules, '@playwright', 'test', 'cli.js'),
};

/** Runs a Node program in the repository root. Resolves to whether it ended well, in time. */
function runNode(/** @type {string[]} */ args, /** @type {NodeJS.ProcessEnv} */ env = {}) {
  return /** @type {Promise<boolean>} */ (
    new Promise((resolve) => {
      const child = spawn(process.execPath, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
      const timer = setTimeout(() => {
        console.error(`Stopped after ${partLimitMs / 60_000} minutes.`);
        child.kill();
      }, partLimitMs);
      child.on('error', (error) => console.error(error.message));
      child.on('close', (code) => {
        clearTimeout(timer);
        resolve(code === 0);
      });
    })
  );
}

/** One test that passes when the program does. */
async function runOne(/** @type {string[]} */ args) {
  const ok = await runNode(args);
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1 };
}

/** The JSON that a test runner wrote, or null where it did not come so far. */
function readReport(/** @type {string} */ path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return null;
  }
}

/**
 * Counts of a runner that writes JSON. A skipped test counts as failed: a suite that runs less than it says is a lie. So
 * does a run that ended badly without a failed test (a file that could not be imported, a crash).
 */
function countReport(
  /** @type {boolean} */ ok,
  /** @type {Count & { skipped: number }} */ { passed, failed, skipped },
) {
  const bad = failed + skipped;
  return { passed, failed: !ok && bad === 0 ? 1 : bad };
}

async function runVitest(/** @type {string} */ project) {
  const file = join(reports, `${project}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const ok = await runNode([tools.vitest, 'run', '--project', project, ...reporters]);
  const report = readReport(file);
  const skipped = (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0);
  return countReport(ok, { passed: report?.numPassedTests ?? 0, failed: report?.numFailedTests ?? 0, skipped });
}

async function runDemo() {
  const file = join(reports, 'demo.json');
  const args = [tools.playwright, 'test', '--config', join(root, 'test', 'playwright.config.ts')];
  const ok = await runNode([...args, '--reporter=list,json'], { PLAYWRIGHT_JSON_OUTPUT_FILE: file });
  const { expected = 0, unexpected = 0, flaky = 0, skipped = 0 } = readReport(file)?.stats ?? {};
  return countReport(ok, { passed: expected + flaky, failed: unexpected, skipped });
}

async function runConsumers() {
  const file = join(reports, 'consumers.json');
  const ok = await runNode([join(root, 'test', 'consumers', 'run.mjs'), '--json', file]);
  const { passed = 0, failed = 0 } = readReport(file) ?? {};
  return countReport(ok, { passed, failed, skipped: 0 });
}

/** @type {Record<string, { needsBrowser: boolean, run: () => Promise<Count> }>} */
const parts = {
  types: { needsBrowser: false, run: () => runOne([tools.tsc, '--noEmit']) },
  lint: { needsBrowser: false, run: () => runOne([tools.biome, 'check', '.']) },
  unit: { needsBrowser: false, run: () => runVitest('unit') },
  gpu: { needsBrowser: true, run: () => runVitest('gpu') },
  demo: { needsBrowser: true, run: runDemo },
  consumers: { needsBrowser: true, run: runConsumers },
};

async function main() {
  const wanted = process.argv.slice(2);
  const unknown = wanted.find((name) => !Object.hasOwn(parts, name));
  if (unknown !== undefined) throw new Error(`Expected parts out of ${Object.keys(parts).join(', ')}; got ${unknown}.`);
  const names = wanted.length > 0 ? wanted : Object.keys(parts);

  if (names.some((name) => parts[name]?.needsBrowser)) {
    const browser = await ensureBrowser();
    const { kind, line } = await chooseAdapter(browser);
    console.log(`Adapter: ${line} (${kind}), in ${browser.label}`);
  }

  const lines = [];
  const total = { passed: 0, failed: 0 };
  for (const name of names) {
    console.log(`\n== ${name}`);
    const start = Date.now();
    const { passed, failed: counted } = await /** @type {any} */ (parts[name]).run();
    const isEmpty = passed + counted === 0;
    const failed = isEmpty ? 1 : counted;
    total.passed += passed;
    total.failed += failed;
    const seconds = Math.round((Date.now() - start) / 1000);
    lines.push(`${name}: ${isEmpty ? 'ran no test' : `${passed} passed, ${failed} failed`} (${seconds} s)`);
  }
  console.log(`\n${lines.join('\n')}\n${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0;
}

try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  console.error(`${/** @type {Error} */ (error).message}\n0 passed, 1 failed`);
  process.exitCode = 1;
} finally {
  rmSync(reports, { recursive: true, force: true });
}
