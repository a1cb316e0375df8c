/**
 * `npm run bench -- --baselines`: foretoken against transformers.js and wllama, on the same weights (the stories target),
 * prompts, browser and adapter. Each is a page of its own; they take turns. Before anything is timed, the greedy text of
 * each is compared with ours at k = 0; where it differs the row says so and has no time.
 */
import { spawnSync } from 'node:child_process';
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/** @typedef {import('./baselines.bench.ts').ContestantOptions} ContestantOptions */
/** @typedef {import('./baselines.bench.ts').ContestantRun} ContestantRun */
/** @typedef {{ name: string, options: ContestantOptions, draftLength: number }} Contestant */

const folder = fileURLToPath(new URL('./baselines/', import.meta.url));
const moduleUrl = `/@fs/${fileURLToPath(new URL('./baselines.bench.ts', import.meta.url))}`;

/** Installs what is compared with into its own folder, where it is not there yet. */
export function prepareBaselines() {
  if (!existsSync(join(folder, 'node_modules'))) {
    console.log('Installing transformers.js and wllama into test/bench/baselines');
    const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
    const { status } = spawnSync(npm, ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
      cwd: folder,
      stdio: 'inherit',
      shell: process.platform === 'win32',
    });
    if (status !== 0) throw new Error(`npm ci in ${folder} failed with status ${status}.`);
  }
  if (!existsSync(join(folder, 'models', 'genai', 'onnx', 'model_fp16.onnx'))) {
    throw new Error(
      'The ONNX exports of the target are not there. Make them with test/bench/tools/export_onnx.py, which says how.',
    );
  }
}

/** What is installed, by name. */
export function baselineVersions() {
  const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  return /** @type {Record<string, string>} */ (dependencies);
}

const types = {
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
};

/** Serves test/bench/baselines as it is, and every page with the headers that WASM threads need. */
export const baselineServer = () => ({
  name: 'baselines',
  configureServer(/** @type {import('vite').ViteDevServer} */ server) {
    server.middlewares.use((request, response, next) => {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
      const { pathname } = new URL(request.url ?? '/', 'http://localhost');
      if (pathname === '/empty') {
        response.setHeader('Content-Type', 'text/html');
        return response.end('<!doctype html>');
      }
      if (!pathname.startsWith('/baselines/')) return next();
      const path = join(folder, decodeURIComponent(pathname.slice('/baselines/'.length)));
      if (!path.startsWith(folder) || !existsSync(path) || !statSync(path).isFile()) {
        response.statusCode = 404;
        return response.end();
      }
      const type = types[/** @type {keyof typeof types} */ (extname(path))] ?? 'application/octet-stream';
      response.setHeader('Content-Type', type);
      response.setHeader('Content-Length', statSync(path).size);
      createReadStream(path).pipe(response);
    });
  },
});

/** @returns {Contestant[]} Ours at k = 0 first. */
export function contestantsFor(/** @type {number} */ threads) {
  const ours = [0, 1, 2, 3].map((k) => ({
    name: `foretoken, k = ${k}`,
    options: /** @type {const} */ ({ program: 'foretoken' }),
    draftLength: k,
  }));
  /** @type {[string, ContestantOptions][]} */
  const others = [
    [
      'transformers.js, WebGPU, plain fp32 export',
      { program: 'transformers.js', model: 'plain', device: 'webgpu', dtype: 'fp32', threads },
    ],
    [
      'transformers.js, WebGPU, fused fp32 export',
      { program: 'transformers.js', model: 'fused', device: 'webgpu', dtype: 'fp32', threads },
    ],
    [
      'transformers.js, WebGPU, fused fp32 export of genai',
      { program: 'transformers.js', model: 'genai', device: 'webgpu', dtype: 'fp32', threads },
    ],
    [
      'transformers.js, WebGPU, fused fp16 export of genai',
      { program: 'transformers.js', model: 'genai', device: 'webgpu', dtype: 'fp16', threads },
    ],
    ...[...new Set([1, threads])].flatMap((count) => {
      const label = `WASM, ${count} ${count === 1 ? 'thread' : 'threads'}`;
      const common = /** @type {const} */ ({
        program: 'transformers.js',
        device: 'wasm',
        dtype: 'fp32',
        threads: count,
      });
      return /** @type {[string, ContestantOptions][]} */ ([
        [`transformers.js, ${label}, plain fp32 export`, { ...common, model: 'plain' }],
        [`transformers.js, ${label}, fused fp32 export of genai`, { ...common, model: 'genai' }],
        [`wllama, ${label}, f16`, { program: 'wllama', device: 'wasm', threads: count }],
      ]);
    }),
    ['wllama, WebGPU, f16', { program: 'wllama', device: 'webgpu', threads }],
  ];
  return [...ours, ...others.map(([name, options]) => ({ name, options, draftLength: 0 }))];
}

/**
 * Opens a page for each program, checks, times.
 * @param {import('@playwright/test').Browser} browser
 * @param {string} url
 * @param {{ prompts: readonly string[], maxNewTokens: number, repeatCount: number, threads: number }} options
 */
export async function runBaselines(browser, url, { prompts, maxNewTokens, repeatCount, threads }) {
  const contestants = contestantsFor(threads);
  /** @type {Map<ContestantOptions, import('@playwright/test').Page>} */
  const pages = new Map();
  /** @type {Map<string, string>} By name, why there is no time. */
  const problems = new Map();
  /** @type {Record<string, unknown>} */
  const facts = {};
  const run = async (/** @type {Contestant} */ { options, draftLength }, /** @type {string} */ prompt) => {
    const page = pages.get(options);
    if (page === undefined) throw new Error('Its page could not be opened.');
    const result = page.evaluate(
      async ([path, ...call]) => (await import(/** @type {string} */ (path))).run(...call),
      /** @type {const} */ ([moduleUrl, prompt, maxNewTokens, draftLength]),
    );
    return /** @type {ContestantRun} */ (await within(result, 600_000));
  };

  const plain = contestants[0];
  if (plain === undefined) throw new Error('Expected a contestant to compare with.');
  /** @type {Map<string, ContestantRun>} */
  const expected = new Map();
  const check = (/** @type {string} */ prompt, /** @type {ContestantRun} */ { text, tokenCount }) => {
    const wanted = expected.get(prompt) ?? { text, tokenCount };
    if (text !== wanted.text) throw new Error(differenceOf(prompt, wanted.text, text));
    if (tokenCount !== wanted.tokenCount) throw new Error(`${tokenCount} tokens instead of ${wanted.tokenCount}`);
  };
  const shared = await openPage(browser, url, plain.options, facts, 'foretoken');
  for (const contestant of contestants) {
    const { name, options } = contestant;
    console.log(`Checking ${name}`);
    try {
      pages.set(options, options.program === 'foretoken' ? shared : await openPage(browser, url, options, facts, name));
      for (const prompt of prompts) {
        const result = await run(contestant, prompt);
        check(prompt, result);
        if (contestant === plain) expected.set(prompt, result);
      }
    } catch (error) {
      if (contestant === plain) throw error;
      problems.set(name, firstLine(error));
      console.log(`  ${problems.get(name)}`);
    }
  }

  const timed = contestants.filter(({ name }) => !problems.has(name));
  /** @type {{ name: string, prompt: string, repeat: number, tokensPerSecond: number }[]} */
  const samples = [];
  for (let repeat = 0; repeat < repeatCount; repeat++) {
    for (const prompt of prompts) {
      for (const contestant of repeat % 2 === 0 ? timed : [...timed].reverse()) {
        const result = await run(contestant, prompt);
        check(prompt, result);
        samples.push({ name: contestant.name, prompt, repeat, tokensPerSecond: result.tokensPerSecond });
      }
    }
    console.log(`Repeat ${repeat + 1} of ${repeatCount} done`);
  }
  const userAgent = await shared.evaluate(() => navigator.userAgent);
  return {
    userAgent,
    names: contestants.map(({ name }) => name),
    problems: Object.fromEntries(problems),
    samples,
    facts,
  };
}

/**
 * @param {import('@playwright/test').Browser} browser
 * @param {string} url
 * @param {ContestantOptions} options
 * @param {Record<string, unknown>} facts
 * @param {string} name
 */
async function openPage(browser, url, options, facts, name) {
  const page = await browser.newPage();
  await page.goto(`${url}empty`);
  const opened = page.evaluate(
    async ([path, given]) => (await import(/** @type {string} */ (path))).open(given),
    /** @type {const} */ ([moduleUrl, options]),
  );
  facts[name] = await within(opened, 300_000);
  return page;
}

/** @template T @param {Promise<T>} promise @param {number} limitMs @returns {Promise<T>} */
function within(promise, limitMs) {
  /** @type {NodeJS.Timeout} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`No answer within ${limitMs / 1000} s.`)), limitMs);
  });
  return Promise.race([promise, /** @type {Promise<never>} */ (late)]).finally(() => clearTimeout(timer));
}

const firstLine = (/** @type {unknown} */ error) =>
  (error instanceof Error ? error.message : String(error)).replace(/^(page\.evaluate: |Error: )+/, '').split('\n')[0] ??
  '';

/** @param {string} prompt @param {string} expected @param {string} got */
function differenceOf(prompt, expected, got) {
  let at = 0;
  while (at < expected.length && expected[at] === got[at]) at += 1;
  const [ours, theirs] = [expected, got].map((text) => JSON.stringify(text.slice(Math.max(0, at - 10), at + 20)));
  return `another text than ours from character ${at} on, for “${prompt}”: ${theirs} instead of ${ours}`;
}
