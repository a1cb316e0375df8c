/**
 * `npm test`: types, lint, unit tests; the GPU tests and the demo page in Chromium; the package in other people's
 * projects. `node test/run.mjs unit gpu` runs those parts only. What draws on the GPU runs beside what does not, and
 * prints as it goes; the others print when they are done. The last line sums up, and a part without a test fails.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { chooseAdapter, ensureBrowser } from './browser.mjs';

/** @typedef {{ passed: number, failed: number }} Count */
/** @typedef {Uint8Array[] | null} Output What a part prints, kept for later; null: it prints at once. */

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
function runNode(
  /** @type {string[]} */ args,
  /** @type {Output} */ output,
  /** @type {NodeJS.ProcessEnv} */ env = {},
) {
  return /** @type {Promise<boolean>} */ (
    new Promise((resolve) => {
      const stdio = output === null ? 'inherit' : 'pipe';
      const child = spawn(process.execPath, args, { cwd: root, stdio, env: { ...process.env, ...env } });
      for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => output?.push(chunk));
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
async function runOne(/** @type {string[]} */ args, /** @type {Output} */ output) {
  const ok = await runNode(args, output);
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

async function runVitest(/** @type {string} */ project, /** @type {Output} */ output) {
  const file = join(reports, `${project}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const ok = await runNode([tools.vitest, 'run', '--project', project, ...reporters], output);
  const report = readReport(file);
  const skipped = (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0);
  return countReport(ok, { passed: report?.numPassedTests ?? 0, failed: report?.numFailedTests ?? 0, skipped });
}

async function runDemo(/** @type {Output} */ output) {
  const file = join(reports, 'demo.json');
  const args = [tools.playwright, 'test', '--config', join(root, 'test', 'playwright.config.ts')];
  const ok = await runNode([...args, '--reporter=list,json'], output, { PLAYWRIGHT_JSON_OUTPUT_FILE: file });
  const { expected = 0, unexpected = 0, flaky = 0, skipped = 0 } = readReport(file)?.stats ?? {};
  return countReport(ok, { passed: expected + flaky, failed: unexpected, skipped });
}

async function runConsumers(/** @type {Output} */ output) {
  const file = join(reports, 'consumers.json');
  const ok = await runNode([join(root, 'test', 'consumers', 'run.mjs'), '--json', file], output);
  const { passed = 0, failed = 0 } = readReport(file) ?? {};
  return countReport(ok, { passed, failed, skipped: 0 });
}

/** `onGpu`: one of them at a time, or they would measure and wait for each other. */
/** @type {Record<string, { needsBrowser: boolean, onGpu: boolean, run: (output: Output) => Promise<Count> }>} */
const parts = {
  types: { needsBrowser: false, onGpu: false, run: (output) => runOne([tools.tsc, '--noEmit'], output) },
  lint: { needsBrowser: false, onGpu: false, run: (output) => runOne([tools.biome, 'check', '.'], output) },
  unit: { needsBrowser: false, onGpu: false, run: (output) => runVitest('unit', output) },
  gpu: { needsBrowser: true, onGpu: true, run: (output) => runVitest('gpu', output) },
  demo: { needsBrowser: true, onGpu: true, run: runDemo },
  consumers: { needsBrowser: true, onGpu: false, run: runConsumers },
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

  /** @type {Map<string, { line: string } & Count>} */
  const results = new Map();
  const runInTurn = async (/** @type {string[]} */ lane, /** @type {boolean} */ atOnce) => {
    for (const name of lane) {
      /** @type {Output} */
      const output = atOnce ? null : [];
      if (atOnce) console.log(`\n== ${name}`);
      const start = Date.now();
      const { passed, failed: counted } = await /** @type {any} */ (parts[name]).run(output);
      if (output !== null) process.stdout.write(`\n== ${name}\n${Buffer.concat(output)}`);
      const isEmpty = passed + counted === 0;
      const failed = isEmpty ? 1 : counted;
      const seconds = Math.round((Date.now() - start) / 1000);
      const line = `${name}: ${isEmpty ? 'ran no test' : `${passed} passed, ${failed} failed`} (${seconds} s)`;
      results.set(name, { line, passed, failed });
    }
  };
  const onGpu = names.filter((name) => parts[name]?.onGpu);
  const beside = names.filter((name) => !parts[name]?.onGpu);
  await Promise.all([runInTurn(onGpu, true), runInTurn(beside, onGpu.length === 0)]);

  const total = { passed: 0, failed: 0 };
  for (const { passed, failed } of results.values()) {
    total.passed += passed;
    total.failed += failed;
  }
  console.log(`\n${names.map((name) => results.get(name)?.line).join('\n')}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
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
