/** The client, the worker and the engine in a real browser. What needs no browser is in test/unit/client. */
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  checkModel,
  createEngine,
  type Engine,
  EngineDisposedError,
  ModelFetchError,
  WorkerError,
} from '../../src/index.ts';
import { abortRuns } from './abort_runs.ts';

const target = '/models/stories-3m/';
const draft = '/models/stories-650k/';
const prompt = 'Once upon a time';
const workerUrl = new URL('../../src/worker.ts', import.meta.url);
const startWorker = (): Worker => new Worker(workerUrl, { type: 'module' });

const rejections: unknown[] = [];
const onRejection = (event: PromiseRejectionEvent): void => void rejections.push(event.reason);
beforeAll(() => addEventListener('unhandledrejection', onRejection));
beforeEach(() => {
  rejections.length = 0;
});
afterAll(() => removeEventListener('unhandledrejection', onRejection));

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The error of a promise that has to reject within `limitMs`. */
async function rejection(promise: Promise<unknown>, limitMs = 5000): Promise<unknown> {
  const late = sleep(limitMs).then(() => {
    throw new Error(`still pending after ${limitMs} ms`);
  });
  return Promise.race([
    promise.then(
      (value) => {
        throw new Error(`Expected a rejection, got ${JSON.stringify(value)}.`);
      },
      (error: unknown) => error,
    ),
    late,
  ]);
}

/** Unhandled rejections are reported after the microtasks of a task. */
async function expectNoUnhandledRejection(): Promise<void> {
  await sleep(50);
  expect(rejections).toEqual([]);
}

describe('a worker that works', () => {
  let engine: Engine;
  const loaded = { target: 0, draft: 0 };
  beforeAll(async () => {
    // The package's own worker, found by its literal URL; the model URLs are relative to the page.
    engine = await createEngine({
      target,
      draft,
      onProgress: ({ model, loadedBytes }) => {
        loaded[model] = loadedBytes;
      },
    });
  });
  afterAll(() => engine.dispose());

  test('reports the bytes of both models and the facts of the device', () => {
    expect(loaded.target).toBeGreaterThan(1_000_000);
    expect(loaded.draft).toBeGreaterThan(100_000);
    expect(engine.info.lossless).toBe('exact');
    expect(engine.info.target.url).toBe(new URL(target, document.baseURI).href);
  });

  test('takes the GPU memory that checkModel foretells, of files whose bytes it foretells', async () => {
    const check = await checkModel({ target, draft, worker: startWorker });
    expect(check).toMatchObject({ fits: true, problems: [], sameVocabulary: true });
    expect(check.gpuBytes.total).toBe(engine.info.gpuBytes);
    expect(check.contextLength).toBe(engine.info.contextLength);
    expect(check.device?.adapter).toEqual(engine.info.adapter);
    expect(check.needs.limits.maxStorageBufferBindingSize).toBeLessThan(
      check.device?.limits.maxStorageBufferBindingSize ?? 0,
    );
    for (const { name, sizeBytes } of check.target.files) {
      expect([name, (await (await fetch(target + name)).arrayBuffer()).byteLength]).toEqual([name, sizeBytes]);
    }
  });

  test('writes the same text with and without a draft, and its rounds add up', async () => {
    const plain = await engine.generate(prompt, { maxNewTokens: 40, draftLength: 0 }).result;
    const run = engine.generate(prompt, { maxNewTokens: 40, draftLength: 3 });
    let text = '';
    const tokens: number[] = [];
    for await (const round of run) {
      text += round.text;
      tokens.push(...round.tokens);
    }
    const result = await run.result;
    expect(result.text).toBe(plain.text);
    expect({ text, tokens }).toEqual({ text: result.text, tokens: result.tokens });
    expect(tokens.length).toBeGreaterThan(10);
    expect(result.meta_info.spec_verify_ct).toBeGreaterThan(0);
    expect(plain.meta_info.spec_verify_ct).toBeUndefined();
  });

  test('goes on in a page without timers and frames, as hidden ones are at times', async () => {
    const limit = sleep(60_000).then(() => 'still waiting');
    for (const name of ['setTimeout', 'setInterval', 'requestAnimationFrame']) vi.stubGlobal(name, () => 0);
    try {
      const run = engine.generate(prompt, { maxNewTokens: 12, draftLength: 2 });
      const drained = (async () => {
        const seen: number[] = [];
        for await (const { tokens } of run) seen.push(...tokens);
        await engine.metrics();
        return [seen.length, (await run.result).tokens.length];
      })();
      expect(await Promise.race([drained, limit])).toEqual([12, 12]);
    } finally {
      vi.unstubAllGlobals();
    }
  });

  test('serves two runs at once', async () => {
    const [a, b] = await Promise.all([
      engine.generate(prompt, { maxNewTokens: 12 }).result,
      engine.generate(prompt, { maxNewTokens: 12 }).result,
    ]);
    expect(b.tokens).toEqual(a.tokens);
  });

  test('settles 8 runs that are aborted or left at random moments, and serves the next', async () => {
    await abortRuns(engine, 8); // 200 of them: test/nightly
    await expectNoUnhandledRejection();
  }, 300_000); // a CPU adapter takes half a second for each
});

describe('a worker that does not', () => {
  test('404: WorkerError with its URL, well within the 10 s of the handshake', async () => {
    const url = new URL('/no/such/worker.js', location.href);
    const error = await rejection(createEngine({ target, worker: () => new Worker(url, { type: 'module' }) }));
    expect(error).toBeInstanceOf(WorkerError);
    const named = await rejection(createEngine({ target, worker: url }));
    expect(named).toBeInstanceOf(WorkerError);
    expect((named as Error).message).toContain(url.href);
    await expectNoUnhandledRejection();
  });

  test('of another origin: WorkerError', async () => {
    const error = await rejection(createEngine({ target, worker: new URL('https://example.invalid/worker.js') }));
    expect(error).toBeInstanceOf(WorkerError);
    expect((error as Error).message).toContain('https://example.invalid/worker.js');
  });

  test('terminated in mid-round: everything pending rejects soon, everything later at once', async () => {
    const worker = startWorker();
    const engine = await createEngine({ target, draft, worker });
    const run = engine.generate(prompt, { maxNewTokens: 400 });
    const waiting = engine.generate(prompt);
    for await (const round of run) {
      if (round.stats.index < 2) continue;
      worker.terminate();
      break;
    }
    // Without Web Locks this would take the heartbeat's minute.
    for (const error of [await rejection(run.result), await rejection(waiting.result)]) {
      expect(error).toBeInstanceOf(WorkerError);
      expect((error as Error).message).toContain('terminated');
    }
    expect(await rejection(engine.metrics(), 100)).toBeInstanceOf(WorkerError);
    expect(await rejection(engine.generate(prompt).result, 100)).toBeInstanceOf(WorkerError);
    await engine.dispose();
    expect(await rejection(engine.metrics(), 100)).toBeInstanceOf(EngineDisposedError);
    await expectNoUnhandledRejection();
  });

  test('aborted while loading: the reason, at once, at any moment', async () => {
    for (const delayMs of [0, 5, 20, 60, 150]) {
      const abort = new AbortController();
      const loading = createEngine({ target, draft, signal: abort.signal });
      await sleep(delayMs);
      const reason = new Error(`after ${delayMs} ms`);
      const startedAt = performance.now();
      abort.abort(reason);
      expect(await rejection(loading)).toBe(reason);
      expect(performance.now() - startedAt).toBeLessThan(500);
    }
    await expectNoUnhandledRejection();
  });

  test('a model that fails keeps the class of its error, garbage changes nothing, and the worker can load another', async () => {
    const worker = startWorker();
    const missing = await rejection(createEngine({ target: '/models/none/', worker }), 20_000);
    expect((missing as Error).name).toMatch(/^Model(Fetch|Format)Error$/);
    if ((missing as Error).name === 'ModelFetchError') expect(missing).toBeInstanceOf(ModelFetchError);
    for (const garbage of [null, 5, 'text', {}, { foretoken: 'open' }, { type: 'APPLY', argumentList: 7 }]) {
      worker.postMessage(garbage);
    }
    const engine = await createEngine({ target, draft, worker });
    expect((await engine.generate(prompt, { maxNewTokens: 5 }).result).tokens).toHaveLength(5);
    const pending = engine.generate(prompt, { maxNewTokens: 400 });
    await Promise.all([engine.dispose(), engine.dispose()]);
    expect(await rejection(pending.result)).toBeInstanceOf(EngineDisposedError);
    worker.terminate();
    await expectNoUnhandledRejection();
  });
});
