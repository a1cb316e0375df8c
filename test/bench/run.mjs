/**
 * `npm run bench [-- --tokens 64 --repeats 3]`: the bench of the demo page, in a headless Chromium on this machine's
 * adapter. Prints the table, writes JSON and Markdown to test/bench/results/, named after the adapter. It presses the
 * page's own button, so these figures and those that people send are made by one piece of code.
 *
 * `npm run bench -- --kernels [--only stories-3m]`: the few-rows matmul by itself.
 * `npm run bench -- --shapes smollm2-1.7b+135m [--dtype q4 --layers 2 --head-tokens 16384]`: v, c and the speedup for given
 * acceptance, with random weights of these models' shapes. Both take `--samples 5`.
 * `npm run bench -- --replay [--tokens 64 --repeats 3]`: observed speedup against the cost model's for given acceptance.
 * `npm run bench -- --passes [--samples 5]`: passes of the embedded target beside each other and what is asked of them:
 * long context, prompt, matmuls and dispatches, drafts looked up in the text.
 * These only print; with `--node` they run in Node, on Dawn (the `webgpu` package), where there is no browser for the GPU
 * at hand.
 * `npm run bench -- --baselines [--tokens 64 --repeats 3]`: beside transformers.js and wllama, see baselines.mjs.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chromium } from '@playwright/test';
import { createServer } from 'vite';
import { chooseAdapter, ensureBrowser, launchOptions } from '../browser.mjs';
import { baselineServer, baselineVersions, prepareBaselines, runBaselines } from './baselines.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const results = fileURLToPath(new URL('./results', import.meta.url));

const { values } = parseArgs({
  options: {
    tokens: { type: 'string', default: '64' },
    repeats: { type: 'string', default: '3' },
    kernels: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    shapes: { type: 'string' },
    replay: { type: 'boolean', default: false },
    passes: { type: 'boolean', default: false },
    baselines: { type: 'boolean', default: false },
    dtype: { type: 'string', default: 'q4' },
    layers: { type: 'string' },
    'head-tokens': { type: 'string' },
    samples: { type: 'string', default: '5' },
    node: { type: 'boolean', default: false },
  },
});

const printsOnly = values.kernels || values.replay || values.passes || values.shapes !== undefined;
const serverOptions = {
  configFile: join(root, 'vite.config.ts'),
  logLevel: /** @type {const} */ ('error'),
  server: { port: 0, open: false, hmr: false },
  plugins: values.baselines ? [baselineServer()] : [],
};
if (values.node && printsOnly) {
  const server = await createServer({ ...serverOptions, server: { middlewareMode: true } });
  const { file, run, print, options } = figuresOf();
  await server.ssrLoadModule(join(root, 'test', 'gpu', 'setup_node.ts'));
  const adapter = await navigator.gpu.requestAdapter();
  // A GPU that is the CPU shares it with whoever waits.
  if (/llvmpipe/i.test(`${adapter?.info.description} ${adapter?.info.device}`)) {
    await server.ssrLoadModule(join(root, 'test', 'gpu', 'setup_lavapipe.ts'));
  }
  const bench = await server.ssrLoadModule(join(root, 'test', 'bench', file));
  console.log(`\n${bench[print](await bench[run](options))}`);
  await server.close();
  process.exit(); // Dawn's threads would keep the process
}

if (values.baselines) prepareBaselines();
const browserFound = await ensureBrowser();
const { kind, line } = await chooseAdapter(browserFound);
console.log(`Adapter: ${line} (${kind}), in ${browserFound.label}`);

const server = await createServer(serverOptions);
const browser = await chromium.launch(launchOptions(browserFound, kind));
try {
  await server.listen();
  const url = server.resolvedUrls?.local[0];
  if (url === undefined) throw new Error('Expected Vite to listen on localhost, got no address.');
  const page = await browser.newPage();
  page.on('pageerror', (error) => console.error(`On the page: ${error.message}`));
  if (values.baselines) await compareWithBaselines(url);
  else if (printsOnly) await printFigures(page, url);
  else await runPageBench(page, url);
} finally {
  await browser.close();
  await server.close();
}

/** The module of a bench that prints figures, and what it is called with. */
function figuresOf() {
  const sampleCount = Number(values.samples);
  const numberOf = (/** @type {string | undefined} */ given) => (given === undefined ? null : Number(given));
  const layers = numberOf(values.layers);
  const headTokens = numberOf(values['head-tokens']);
  if (values.replay) {
    const options = { tokens: Number(values.tokens), repeats: Number(values.repeats) };
    return { file: 'replay.bench.ts', run: 'benchReplay', print: 'replayMarkdown', options };
  }
  if (values.passes) {
    return { file: 'passes.bench.ts', run: 'benchPasses', print: 'passesMarkdown', options: { sampleCount } };
  }
  return values.kernels
    ? {
        file: 'matmul.bench.ts',
        run: 'benchKernels',
        print: 'kernelsMarkdown',
        options: { only: values.only, sampleCount },
      }
    : {
        file: 'shapes.bench.ts',
        run: 'benchShapes',
        print: 'shapesMarkdown',
        options: { ...values, layers, headTokens, sampleCount },
      };
}

/** Runs the module of a bench in an empty page, and prints its table. */
async function printFigures(/** @type {import('@playwright/test').Page} */ page, /** @type {string} */ url) {
  page.on('console', (message) => console.log(message.text()));
  await page.route('**/empty', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  await page.goto(`${url}empty`);
  const { file, run, print, options } = figuresOf();
  const markdown = await page.evaluate(
    async ([path, runName, printName, given]) => {
      const bench = await import(/** @type {string} */ (path));
      return bench[printName](await bench[runName](given));
    },
    /** @type {const} */ ([`/@fs/${join(root, 'test', 'bench', file)}`, run, print, options]),
  );
  console.log(`\n${markdown}`);
}

/** Presses the button of the demo page, prints its table and keeps it. */
async function runPageBench(/** @type {import('@playwright/test').Page} */ page, /** @type {string} */ url) {
  await page.goto(url);
  await failOnProblem(page, '#bench-start:enabled');
  await page.fill('#bench-tokens', values.tokens);
  await page.fill('#bench-repeats', values.repeats);
  await page.check('#bench-sampled');
  await page.click('#bench-start');
  const ticker = setInterval(async () => {
    const label = await page.textContent('#bench-label').catch(() => null);
    if (label !== null) console.log(label);
  }, 15_000);
  try {
    await failOnProblem(page, '#bench-result[data-state=done]');
  } finally {
    clearInterval(ticker);
  }
  const report = JSON.parse((await page.textContent('#bench-json')) ?? '');
  const { benchMarkdown } = await server.ssrLoadModule('/bench_report.ts');
  const markdown = benchMarkdown(report);
  console.log(`\n${markdown}`);
  if (report.tokensEqual) keep(report, markdown, '');
  else process.exitCode = 1;
}

/** Times foretoken and the programs beside it, prints their table and keeps it. */
async function compareWithBaselines(/** @type {string} */ url) {
  const { benchPrompts } = await server.ssrLoadModule('/bench.ts');
  const { askedOf, baselinesMarkdown, rowsOf } = await server.ssrLoadModule(
    join(root, 'test/bench/baselines_report.ts'),
  );
  const options = { prompts: benchPrompts, maxNewTokens: Number(values.tokens), repeatCount: Number(values.repeats) };
  const before = loadavg()[0];
  const cores = cpus().length;
  const { names, problems, samples, facts, userAgent } = await runBaselines(browser, url, {
    ...options,
    threads: cores,
  });
  const rows = rowsOf(names, samples, problems);
  const report = {
    date: new Date().toISOString(),
    userAgent,
    adapter: /** @type {{ adapter: import('foretoken').AdapterInfo }} */ (facts.foretoken).adapter,
    cores,
    loadAverages: [before, loadavg()[0]],
    versions: baselineVersions(),
    ...options,
    rows,
    asked: askedOf(rows),
    facts,
    samples,
  };
  const markdown = baselinesMarkdown(report);
  console.log(`\n${markdown}`);
  keep(report, markdown, '-baselines');
}

/** Writes a report and its table, named after the adapter. */
function keep(
  /** @type {{ adapter: import('foretoken').AdapterInfo }} */ report,
  /** @type {string} */ markdown,
  /** @type {string} */ suffix,
) {
  const { vendor, architecture, device } = report.adapter;
  const words = `${vendor} ${architecture} ${device}`.toLowerCase().match(/[a-z0-9]+/g);
  const slug = `${words?.join('-') ?? 'unnamed'}${suffix}`;
  mkdirSync(results, { recursive: true });
  writeFileSync(join(results, `${slug}.json`), `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(join(results, `${slug}.md`), markdown);
  console.log(`Written: test/bench/results/${slug}.json and ${slug}.md`);
}

/** Waits for a selector, without a time limit of its own; throws what the page says when that is an error instead. */
async function failOnProblem(/** @type {import('@playwright/test').Page} */ page, /** @type {string} */ selector) {
  const problem = page.waitForSelector('#problem', { state: 'visible', timeout: 0 }).then(async () => {
    throw new Error((await page.textContent('#problem'))?.replaceAll(/\s+/g, ' '));
  });
  problem.catch(() => {}); // it also rejects when the browser closes, long after the race below is decided
  await Promise.race([page.waitForSelector(selector, { timeout: 0 }), problem]);
}
