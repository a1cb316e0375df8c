import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { checkModel, createEngine } from '../../../src/client.ts';
import {
  EngineDisposedError,
  InvalidOptionError,
  isForetokenError,
  ModelFetchError,
  WorkerError,
} from '../../../src/errors.ts';
import type { GenerateOptions } from '../../../src/types.ts';
import { drain, type EngineLog, type FakeWorker, fakeWorker, newLog, settled, watchRejections } from './fixtures.ts';

const target = 'http://models.test/target/';

let log: EngineLog;
let rejections: ReturnType<typeof watchRejections>;
beforeEach(() => {
  log = newLog();
  rejections = watchRejections();
});
afterEach(async () => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  const count = await rejections.count();
  rejections.stop();
  expect(count).toBe(0);
});

/** An engine in a worker that the client started, and that worker. */
async function startEngine(options: { owned?: boolean } = {}) {
  const worker = fakeWorker(log);
  const engine = await createEngine({ target, worker: options.owned === false ? worker : () => worker });
  return { engine, worker };
}

const rejection = async (promise: Promise<unknown>): Promise<unknown> => {
  const outcome = await settled(promise);
  if ('value' in outcome) throw new Error(`Expected a rejection, got ${JSON.stringify(outcome.value)}.`);
  return outcome.error;
};
const message = (error: unknown): string => (error as Error).message;

describe('checkModel', () => {
  test('answers from a worker of its own, which ends with it', async () => {
    const worker = fakeWorker(log);
    const file = new File(['GGUF'], 'a.gguf');
    const check = await checkModel({ target, draft: file, worker: () => worker });
    expect(check).toEqual({ fits: false, problems: [{ code: 'DeviceLimitError', message: target }] });
    await vi.waitFor(() => expect(worker.terminated).toBe(true));
    expect(log.created).toEqual([]);
  });

  test('throws what the check throws, with its class, and lets the worker go', async () => {
    const worker = fakeWorker(log);
    const error = await rejection(checkModel({ target: 'http://models.test/missing/', worker: () => worker }));
    expect(error).toBeInstanceOf(ModelFetchError);
    expect(worker.terminated).toBe(true);
    const unknown = await rejection(checkModel({ target, contextSize: 9 } as never));
    expect(message(unknown)).toMatch(/`contextLength`/);
  });

  test('is ended by its signal, with the signal’s reason', async () => {
    const worker = fakeWorker(log);
    const controller = new AbortController();
    const options = { target: 'http://models.test/forever/', worker: () => worker, signal: controller.signal };
    const pending = rejection(checkModel(options));
    setTimeout(() => controller.abort(new RangeError('mine')), 5);
    expect(await pending).toBeInstanceOf(RangeError);
    expect(worker.terminated).toBe(true);
  });
});

describe('loading', () => {
  test('tells listeners of rounds and requests, until they leave', async () => {
    const { engine } = await startEngine();
    const rounds: number[] = [];
    const requests: string[] = [];
    const ends = [
      engine.on('round', ({ records }) => rounds.push(...records.map(({ index }) => index))),
      engine.on('round', () => {
        ends[1]?.();
        rounds.push(-1);
      }),
      engine.on('request', ({ meta_info: meta }) => requests.push(meta.finish_reason.type)),
    ];
    await engine.generate([0], { maxNewTokens: 3 }).result;
    expect(rounds).toEqual([0, -1, 1, 2]);
    await vi.waitFor(() => expect(requests).toEqual(['length']));
    for (const end of ends) end();
    await engine.generate([0], { maxNewTokens: 3 }).result;
    expect([rounds.length, requests.length]).toEqual([4, 1]);
    expect(() => engine.on('rounds' as 'round', () => {})).toThrow(
      /'round', 'request' or 'batch', got the string "rou/,
    );
    expect(() => engine.on('round', null as never)).toThrow(InvalidOptionError);
    await engine.dispose();
    engine.on('round', () => {})();
  });

  test('loads, writes and ends in a page whose timers never fire, as in a hidden tab', async () => {
    const limit = settled(new Promise(() => {})); // with a timer of before
    for (const name of ['setTimeout', 'setInterval']) vi.stubGlobal(name, () => 0);
    const life = (async () => {
      const { engine } = await startEngine();
      const { tokens } = await engine.generate([0], { maxNewTokens: 3 }).result;
      await engine.dispose();
      return tokens;
    })();
    expect(await Promise.race([life, limit])).toEqual([0, 1, 2]);
  });

  test('gives an engine with its facts, its metrics and its costs', async () => {
    const { engine } = await startEngine();
    expect(engine.info.lossless).toBe('exact');
    expect(await engine.metrics()).toContain('spec_verify_calls_total');
    expect((await engine.measureCosts({ sampleCount: 9 })).sampleCount).toBe(9);
    await expect(engine.measureCosts({ sampleCount: 0 })).rejects.toThrow(InvalidOptionError);
    await engine.dispose();
  });

  test('hands on the options, and the progress back', async () => {
    const seen: number[] = [];
    const worker = fakeWorker(log);
    const onProgress = ({ loadedBytes }: { loadedBytes: number }) => seen.push(loadedBytes);
    const engine = await createEngine({
      target,
      contextLength: 128,
      cache: false,
      modelName: 'mine',
      worker,
      onProgress,
    });
    expect(seen).toEqual([100, 200, 300]);
    expect(log.created[0]).toMatchObject({ target, draft: null, contextLength: 128, cache: false, modelName: 'mine' });
    expect(log.created[0]).not.toHaveProperty('worker');
    await engine.dispose();
  });

  test('an onProgress that throws fails the load with its own error', async () => {
    const worker = fakeWorker(log);
    const onProgress = () => {
      throw new RangeError('mine');
    };
    const error = await rejection(createEngine({ target, worker: () => worker, onProgress }));
    expect(error).toBeInstanceOf(RangeError);
    expect(worker.terminated).toBe(true);
  });

  test('resolves relative model URLs against the page', async () => {
    vi.stubGlobal('document', { baseURI: 'https://page.test/app/index.html' });
    const engine = await createEngine({ target: 'models/a/', draft: '/models/b/', worker: fakeWorker(log) });
    expect(log.created[0]).toMatchObject({
      target: 'https://page.test/app/models/a/',
      draft: 'https://page.test/models/b/',
    });
    await engine.dispose();
  });

  test('hands on a draft model with the number of its tokens, and its URL as the page means it', async () => {
    vi.stubGlobal('document', { baseURI: 'https://page.test/app/index.html' });
    const engine = await createEngine({
      target: 'models/a/',
      draft: { model: '/models/b/', headTokens: 512 },
      worker: fakeWorker(log),
    });
    expect(log.created[0]?.draft).toEqual({ model: 'https://page.test/models/b/', headTokens: 512 });
    expect(log.created[0]).not.toHaveProperty('headTokens');
    await engine.dispose();
  });

  test('resolves repository ids against the hub, and keeps their names', async () => {
    vi.stubGlobal('document', { baseURI: 'https://page.test/app/index.html' });
    const engine = await createEngine({ target: 'org/model', draft: 'org/small@v1', worker: fakeWorker(log) });
    expect(log.created[0]).toMatchObject({
      target: 'https://huggingface.co/org/model/resolve/main/',
      draft: 'https://huggingface.co/org/small/resolve/v1/',
      modelName: 'model',
    });
    await engine.dispose();
  });

  test('refuses bad options before it starts a worker', async () => {
    const worker = vi.fn();
    const bad = (options: unknown) => rejection(createEngine(options as Parameters<typeof createEngine>[0]));
    for (const options of [{ worker }, { target, worker, context_length: 5 }, { target, worker: 'worker.js' }, null]) {
      expect(await bad(options)).toBeInstanceOf(InvalidOptionError);
    }
    expect(await bad({ target: 'relative/without/a/page', worker })).toBeInstanceOf(InvalidOptionError);
    expect(message(await bad({ target, worker: 'worker.js' }))).toContain('new URL');
    expect(worker).not.toHaveBeenCalled();
    expect(await bad({ target, worker: () => 5 })).toBeInstanceOf(InvalidOptionError);
  });

  test('keeps the class of an error, and terminates only its own worker', async () => {
    const missing = 'http://models.test/missing/';
    const own = fakeWorker(log);
    const error = await rejection(createEngine({ target: missing, worker: () => own }));
    expect(error).toBeInstanceOf(ModelFetchError);
    expect(error).toMatchObject({ name: 'ModelFetchError', message: `Expected ${missing}, got 404.` });
    expect((error as Error).stack).toContain('fixtures');
    expect(own.terminated).toBe(true);

    const given = fakeWorker(log);
    expect(await rejection(createEngine({ target: missing, worker: given }))).toBeInstanceOf(ModelFetchError);
    expect(given.terminated).toBe(false);
    const engine = await createEngine({ target, worker: given });
    expect((await engine.generate([0], { maxNewTokens: 3 }).result).tokens).toEqual([0, 1, 2]);
    await engine.dispose();
  });

  test('aborted while loading: rejects at once with the reason; a worker of ours is ended, another is told', async () => {
    for (const owned of [true, false]) {
      const worker = fakeWorker(log);
      const abort = new AbortController();
      const loading = createEngine({
        target: 'http://models.test/forever/',
        worker: owned ? () => worker : worker,
        signal: abort.signal,
      });
      await vi.waitFor(() => expect(log.created.length).toBe(owned ? 1 : 2));
      const reason = new Error('changed my mind');
      abort.abort(reason);
      expect(await rejection(loading)).toBe(reason);
      await vi.waitFor(() => expect(worker.terminated).toBe(owned));
      // Told or ended, the load in the worker must not go on: its signal is how the engine hears of it.
      if (!owned) await vi.waitFor(() => expect(log.created[1]?.signal?.aborted).toBe(true));
    }
  });

  test('aborted before: starts nothing', async () => {
    const worker = vi.fn();
    const error = await rejection(createEngine({ target, worker, signal: AbortSignal.abort() }));
    expect(error).toMatchObject({ name: 'AbortError' });
    expect(worker).not.toHaveBeenCalled();
  });

  test('aborting after the load changes nothing', async () => {
    const abort = new AbortController();
    const engine = await createEngine({ target, worker: fakeWorker(log), signal: abort.signal });
    abort.abort();
    expect((await engine.generate([0], { maxNewTokens: 2 }).result).tokens).toEqual([0, 1]);
    await engine.dispose();
  });
});

describe('the option worker', () => {
  test('a Worker is used and never terminated', async () => {
    const { engine, worker } = await startEngine({ owned: false });
    await engine.dispose();
    expect(worker.terminated).toBe(false);
    expect(log.disposed).toBe(1);
  });

  test('a Worker may carry two engines, and another after they are gone', async () => {
    const worker = fakeWorker(log);
    const [a, b] = await Promise.all([createEngine({ target, worker }), createEngine({ target, worker })]);
    const [first, second] = [a.generate([10]).result, b.generate([20]).result];
    expect((await first).tokens[0]).toBe(10);
    expect((await second).tokens[0]).toBe(20);
    await a.dispose();
    expect((await b.generate([30], { maxNewTokens: 1 }).result).tokens).toEqual([30]);
    await b.dispose();
    const c = await createEngine({ target, worker });
    expect(await c.metrics()).toContain('foretoken:');
    await c.dispose();
  });

  test('a factory is called once, and its worker is terminated by dispose', async () => {
    const worker = fakeWorker(log);
    const factory = vi.fn(() => worker);
    const engine = await createEngine({ target, worker: factory });
    expect(factory).toHaveBeenCalledTimes(1);
    await engine.dispose();
    expect(worker.terminated).toBe(true);
    expect(log.disposed).toBe(1);
  });

  test('a URL, and nothing, start a module worker', async () => {
    const started: { url: string; type: string | undefined; worker: FakeWorker }[] = [];
    function StubWorker(url: URL, options?: WorkerOptions) {
      const worker = fakeWorker(log);
      started.push({ url: url.href, type: options?.type, worker });
      return worker;
    }
    vi.stubGlobal('Worker', StubWorker);
    const byUrl = await createEngine({ target, worker: new URL('http://page.test/w.js') });
    const byDefault = await createEngine({ target });
    expect(started.map(({ url }) => url)).toEqual(['http://page.test/w.js', expect.stringMatching(/\/worker\.js$/)]);
    expect(started.map(({ type }) => type)).toEqual(['module', 'module']);
    await Promise.all([byUrl.dispose(), byDefault.dispose()]);
    expect(started.map(({ worker }) => worker.terminated)).toEqual([true, true]);
  });

  test('without Worker (a server) the error says what to use', async () => {
    vi.stubGlobal('Worker', undefined);
    const error = await rejection(createEngine({ target }));
    expect(error).toBeInstanceOf(WorkerError);
    expect(message(error)).toContain('foretoken/engine');
  });

  test('a constructor that throws becomes a WorkerError with the URL and the cause', async () => {
    const cause = new DOMException('cannot be accessed from origin', 'SecurityError');
    function StubWorker() {
      throw cause;
    }
    vi.stubGlobal('Worker', StubWorker);
    const error = await rejection(createEngine({ target, worker: new URL('http://other.test/w.js') }));
    expect(error).toBeInstanceOf(WorkerError);
    expect(error).toMatchObject({ cause, message: expect.stringContaining('http://other.test/w.js') });
  });
});

describe('a worker that does not start', () => {
  test('404: an error event without a message', async () => {
    const worker = fakeWorker(log, 'error');
    const error = await rejection(createEngine({ target, worker: () => worker }));
    expect(error).toBeInstanceOf(WorkerError);
    expect(message(error)).toMatch(/404.*Content-Security-Policy/);
    expect(worker.terminated).toBe(true);
  });

  test('silent: gives up after 10 s, not before', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] });
    const worker = fakeWorker(log, 'silent');
    let error: unknown = null;
    createEngine({ target, worker: () => worker }).catch((reason) => {
      error = reason;
    });
    await vi.advanceTimersByTimeAsync(9999);
    expect(error).toBeNull();
    await vi.advanceTimersByTimeAsync(1);
    expect(error).toBeInstanceOf(WorkerError);
    expect(message(error)).toContain('10 s');
    expect(worker.terminated).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('silent at first, because it imports the engine late: is greeted again', async () => {
    const engine = await createEngine({ target, worker: fakeWorker(log, 'late') });
    expect(engine.info.lossless).toBe('exact');
    await engine.dispose();
  });

  test('of another version', async () => {
    const error = await rejection(createEngine({ target, worker: fakeWorker(log, 'old') }));
    expect(error).toBeInstanceOf(WorkerError);
    expect(message(error)).toContain('versions');
  });
});

describe('a run', () => {
  test('yields the rounds of the worker and their sum', async () => {
    const { engine } = await startEngine();
    const run = engine.generate([100], { maxNewTokens: 20 });
    const { rounds, error } = await drain(run);
    expect(error).toBeNull();
    const result = await run.result;
    expect(rounds.flatMap((round) => round.tokens)).toEqual(result.tokens);
    expect(rounds.map((round) => round.text).join('')).toBe(result.text);
    expect(result.tokens).toEqual(Array.from({ length: 20 }, (_, i) => 100 + i));
    await engine.dispose();
  });

  test('completes without a consumer', async () => {
    const { engine } = await startEngine();
    expect((await engine.generate('text', { maxNewTokens: 30 }).result).tokens).toHaveLength(30);
    await engine.dispose();
  });

  test('two at once: the second waits its turn', async () => {
    const { engine } = await startEngine();
    const results = [engine.generate([10]), engine.generate([20]), engine.generate([30])].map((run) => run.result);
    expect((await Promise.all(results)).map(({ tokens }) => tokens[0])).toEqual([10, 20, 30]);
    expect(log.mostActive).toBe(1);
    await engine.dispose();
  });

  test('that fails yields what it had, then its error with its class; the next one works', async () => {
    const { engine } = await startEngine();
    const run = engine.generate([13]);
    const { rounds, error } = await drain(run);
    expect(rounds).toHaveLength(2);
    expect(error).toBeInstanceOf(ModelFetchError);
    expect(await rejection(run.result)).toBe(error);
    expect((await engine.generate([0], { maxNewTokens: 1 }).result).tokens).toEqual([0]);
    await engine.dispose();
  });

  test('break aborts it in the worker', async () => {
    const { engine, worker } = await startEngine();
    const run = engine.generate([0], { maxNewTokens: 100_000 });
    for await (const _ of run) break;
    const { meta_info, tokens } = (await settled(run.result)) && (await run.result);
    expect(meta_info.finish_reason.type).toBe('abort');
    const events = worker.eventCount();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(worker.eventCount()).toBe(events); // nothing goes on in there
    expect(tokens.length).toBeLessThan(100_000);
    await engine.dispose();
  });

  test('a signal ends it with what it has, and the rounds add up to the result', async () => {
    const { engine } = await startEngine();
    const abort = new AbortController();
    const run = engine.generate([0], { maxNewTokens: 100_000, signal: abort.signal });
    const tokens: number[] = [];
    for await (const round of run) {
      tokens.push(...round.tokens);
      if (tokens.length === 5) abort.abort(new Error('enough'));
    }
    const result = await run.result;
    expect(result.meta_info.finish_reason).toEqual({ type: 'abort', message: 'enough' });
    expect(tokens).toEqual(result.tokens);
    await engine.dispose();
  });

  test('with a signal that was aborted before emits nothing', async () => {
    const { engine } = await startEngine();
    const result = await engine.generate([0], { signal: AbortSignal.abort(new Error('early')) }).result;
    expect(result.tokens).toEqual([]);
    expect(result.meta_info.finish_reason).toEqual({ type: 'abort', message: 'early' });
    await engine.dispose();
  });

  test('hands on every option, checked, in a form that can cross', async () => {
    const { engine } = await startEngine();
    const options: GenerateOptions = {
      maxNewTokens: 3,
      minNewTokens: 2,
      draftLength: 0,
      temperature: 0.7,
      topK: 5,
      topP: 0.9,
      minP: 0.1,
      seed: 2 ** 53 - 1,
      repetitionPenalty: 1.1,
      presencePenalty: -1,
      frequencyPenalty: 1,
      logitBias: { 7: -100 },
      stop: 'x',
      stopTokenIds: [7],
      ignoreEos: true,
      logprobs: true,
      topLogprobs: 2,
      priority: -3,
      signal: new AbortController().signal,
    };
    await engine.generate([0], options).result;
    const { signal, ...received } = log.generated[0]!;
    expect(received).toEqual({ ...options, logitBias: new Map([[7, -100]]), stop: ['x'], signal: undefined });
    await engine.generate([0], { maxNewTokens: 1 }).result;
    expect(log.generated[1]).not.toHaveProperty('seed');
    await engine.dispose();
  });

  test('with bad options or a bad prompt throws on the page', async () => {
    const { engine, worker } = await startEngine();
    expect(() => engine.generate([0], { max_new_tokens: 5 } as object)).toThrow(/maxNewTokens/);
    expect(() => engine.generate([0], { draftLength: 3 })).toThrow(InvalidOptionError);
    expect(() => engine.generate([0], { temperature: -1 })).toThrow(InvalidOptionError);
    expect(() => engine.generate([0], { logitBias: { 512: 1 } })).toThrow(InvalidOptionError);
    // Together with the one end-of-sequence token of the model.
    const stopTokenIds = Array.from({ length: 16 }, (_, i) => 10 + i);
    expect(() => engine.generate([0], { stopTokenIds })).toThrow(/at most 16 .* \(1\), got 17/);
    expect(() => engine.generate([512])).toThrow(InvalidOptionError);
    expect(() => engine.generate(5 as never)).toThrow(InvalidOptionError);
    expect(worker.eventCount()).toBe(3); // the progress of the load
    await engine.dispose();
  });

  test('1,000 of them leave nothing behind: no port, no listener, no timer', async () => {
    const { engine } = await startEngine();
    const abort = new AbortController();
    const { signal } = abort;
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners += 1;
      addEventListener.apply(signal, args);
    };
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners -= 1;
      removeEventListener.apply(signal, args);
    };
    let channels = 0;
    const { MessageChannel: RealChannel } = globalThis;
    function CountedChannel() {
      channels += 1;
      return new RealChannel();
    }
    vi.stubGlobal('MessageChannel', CountedChannel);
    const resources = () => process.getActiveResourcesInfo().filter((name) => /Timeout|MessagePort/.test(name)).length;
    const before = resources();
    for (let i = 0; i < 1000; i += 1) {
      expect((await engine.generate([i % 10], { maxNewTokens: 1, signal }).result).tokens).toEqual([i % 10]);
    }
    expect(channels).toBe(0);
    expect(listeners).toBe(0);
    expect(resources()).toBeLessThanOrEqual(before);
    await engine.dispose();
  });
});

describe('a worker that dies', () => {
  test('by an uncaught error in mid-round: everything pending rejects, later calls reject at once', async () => {
    const { engine, worker } = await startEngine();
    const run = engine.generate([0], { maxNewTokens: 100_000 });
    const waiting = engine.generate([1]);
    const iteration = drain(run);
    await new Promise((resolve) => setTimeout(resolve, 5));
    worker.dispatchEvent(Object.assign(new Event('error'), { message: 'Out of memory', filename: 'w.js', lineno: 7 }));
    const metrics = engine.metrics();
    for (const error of [
      (await iteration).error,
      await rejection(run.result),
      await rejection(waiting.result),
      await rejection(metrics),
      await rejection(engine.measureCosts()),
      await rejection(engine.generate([2]).result),
    ]) {
      expect(error).toBeInstanceOf(WorkerError);
      expect(message(error)).toMatch(/Out of memory.*w\.js:7/);
    }
    expect(worker.terminated).toBe(true);
    await engine.dispose();
    expect(await rejection(engine.metrics())).toBeInstanceOf(EngineDisposedError);
  });

  test('without a word: the heartbeat finds out, however long it must not be hasty', async () => {
    const { engine, worker } = await startEngine();
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] });
    const run = engine.generate([0], { maxNewTokens: 100_000 });
    await run[Symbol.asyncIterator]().next();
    // A living worker is never declared dead: two minutes of ticks, with time for its answers in between.
    for (let second = 0; second < 120; second += 1) {
      await vi.advanceTimersByTimeAsync(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    worker.hang();
    let error: unknown = null;
    run.result.catch((reason) => {
      error = reason;
    });
    await new Promise((resolve) => setImmediate(resolve)); // what was on its way
    await new Promise((resolve) => setImmediate(resolve));
    await vi.advanceTimersByTimeAsync(58_000);
    expect(error).toBeNull();
    await vi.advanceTimersByTimeAsync(3000);
    expect(error).toBeInstanceOf(WorkerError);
    expect(worker.terminated).toBe(true);
    await engine.dispose();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('no: one that answers pings but says nothing for two minutes, as while a GPU compiles, is not dead', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] });
    const worker = fakeWorker(log);
    const abort = new AbortController();
    let outcome: unknown = null;
    createEngine({ target: 'http://models.test/forever/', worker: () => worker, signal: abort.signal }).catch(
      (error) => {
        outcome = error;
      },
    );
    for (let second = 0; second < 120; second += 1) {
      await vi.advanceTimersByTimeAsync(1000);
      for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(outcome).toBeNull();
    expect(log.created).toHaveLength(1);
    abort.abort('enough');
    await new Promise((resolve) => setImmediate(resolve));
    expect(outcome).toBe('enough');
  });

  test('an idle engine has no heartbeat', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] });
    const { engine } = await startEngine();
    expect(vi.getTimerCount()).toBe(0);
    await engine.dispose();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('held by a Web Lock: told at once', async () => {
    // The one lock manager of a browser, for the two calls that we make of it.
    const queues = new Map<string, (() => Promise<unknown>)[]>();
    const next = async (name: string): Promise<void> => {
      const queue = queues.get(name)!;
      await queue[0]!();
      queue.shift();
      if (queue.length > 0) await next(name);
    };
    const request = async (name: string, ...rest: unknown[]): Promise<void> => {
      const queue = queues.get(name) ?? [];
      queues.set(name, queue);
      queue.push(async () => (rest.at(-1) as () => unknown)());
      if (queue.length === 1) await next(name);
    };
    const release: (() => void)[] = [];
    const holding = async (name: string, ...rest: unknown[]): Promise<void> => {
      const dead = new Promise<void>((resolve) => release.push(resolve)); // a dead worker's lock is free
      await request(name, () => Promise.race([dead, (rest.at(-1) as () => unknown)()]));
    };
    vi.stubGlobal('navigator', { locks: { request: holding } });
    const { engine } = await startEngine();
    await vi.waitFor(() => expect([...queues.values()][0]).toHaveLength(2));
    const run = engine.generate([0], { maxNewTokens: 100_000 });
    release[0]!();
    const error = await rejection(run.result);
    expect(error).toBeInstanceOf(WorkerError);
    expect(message(error)).toContain('terminated');
    await engine.dispose();
  });

  test('no: garbage from the page is answered by a typed error, and the engine goes on', async () => {
    const { engine, worker } = await startEngine({ owned: false });
    const run = engine.generate([0], { maxNewTokens: 50 });
    const garbage = [
      null,
      undefined,
      0,
      'text',
      [],
      {},
      { foretoken: 'close' },
      { foretoken: 'open', port: 5 },
      { id: 'x', type: 'APPLY', path: 5, argumentList: 5 },
      { id: 'x', type: 'APPLY', path: ['constructor'], argumentList: [null] },
      new Map([[1, 2]]),
    ];
    for (const data of garbage) worker.postMessage(data);
    expect((await run.result).tokens).toHaveLength(50);
    const answers = worker.replies.filter((reply) => reply.foretoken === 'error');
    expect(answers).toHaveLength(garbage.length);
    for (const answer of answers) {
      expect(answer).toMatchObject({ error: { name: 'InvalidOptionError' } });
      expect(isForetokenError((answer as { error: unknown }).error)).toBe(true);
    }
    await engine.dispose();
  });
});

describe('dispose', () => {
  test('ends what is pending, rejects what comes later, and is harmless twice', async () => {
    const { engine, worker } = await startEngine();
    const run = engine.generate([0], { maxNewTokens: 100_000 });
    const waiting = engine.generate([1]);
    const iteration = drain(run);
    const metrics = engine.metrics();
    const [first, second] = [engine.dispose(), engine.dispose()];
    for (const error of [
      (await iteration).error,
      await rejection(run.result),
      await rejection(waiting.result),
      await rejection(metrics),
      await rejection(engine.metrics()),
      await rejection(engine.measureCosts()),
      await rejection(engine.generate([2]).result),
    ]) {
      expect(error).toBeInstanceOf(EngineDisposedError);
    }
    await Promise.all([first, second, engine.dispose()]);
    expect(log.disposed).toBe(1);
    expect(worker.terminated).toBe(true);
  });

  test('waits 2 s for a worker that hangs, no longer', async () => {
    const { engine, worker } = await startEngine();
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] });
    worker.hang();
    let done = false;
    const disposed = engine.dispose().then(() => {
      done = true;
    });
    await vi.advanceTimersByTimeAsync(1999);
    expect(done).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await disposed;
    expect(worker.terminated).toBe(true);
  });
});

describe('at random moments', () => {
  test('50 aborts: every run settles as aborted or complete, and the engine serves the next', async () => {
    const { engine } = await startEngine();
    let state = 12345;
    const random = (): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    const kinds = { abort: 0, length: 0 };
    const runs = Array.from({ length: 50 }, async (_, i) => {
      const abort = new AbortController();
      const run = engine.generate([100 + i], { maxNewTokens: 1 + Math.floor(random() * 40), signal: abort.signal });
      setTimeout(() => abort.abort(), random() * 30);
      const leaveAfter = random() < 0.3 ? 1 + Math.floor(random() * 5) : Number.POSITIVE_INFINITY;
      const tokens: number[] = [];
      for await (const round of run) {
        tokens.push(...round.tokens);
        if (tokens.length >= leaveAfter) break;
      }
      const outcome = await settled(run.result);
      if (!('value' in outcome)) throw outcome.error;
      const { tokens: all, meta_info } = outcome.value;
      expect(all.slice(0, tokens.length)).toEqual(tokens);
      kinds[meta_info.finish_reason.type as keyof typeof kinds] += 1;
    });
    await Promise.all(runs);
    expect(kinds.abort).toBeGreaterThan(10);
    expect(kinds.abort + kinds.length).toBe(50);
    expect((await engine.generate([7], { maxNewTokens: 3 }).result).tokens).toEqual([7, 8, 9]);
    await engine.dispose();
  });

  test('50 loads aborted: each rejects with its reason or gives an engine', async () => {
    let engines = 0;
    for (let i = 0; i < 50; i += 1) {
      const worker = fakeWorker(log);
      const abort = new AbortController();
      const loading = createEngine({ target, worker: () => worker, signal: abort.signal });
      for (let turn = 0; turn < i % 13; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      abort.abort(`reason ${i}`);
      const outcome = await settled(loading);
      if ('value' in outcome) {
        engines += 1;
        await outcome.value.dispose();
      } else {
        expect(outcome.error).toBe(`reason ${i}`);
      }
      expect(worker.terminated).toBe(true);
    }
    expect(engines).toBeLessThan(50);
  });
});
