import { afterEach, describe, expect, test, vi } from 'vitest';
import { createEngine } from '../../../src/client.ts';
import { createEngineSharing } from '../../../src/engine_sharing.ts';
import {
  DeviceLostError,
  EngineDisposedError,
  InvalidOptionError,
  ModelFetchError,
  WorkerError,
} from '../../../src/errors.ts';
import type { Engine, EngineOptions } from '../../../src/types.ts';
import { fakeApi, fakeEngine, fakeWorker, newLog, settled } from './fixtures.ts';

const target = 'http://models.test/target/';
const forever = 'http://models.test/forever/';

afterEach(() => vi.unstubAllGlobals());

const rejection = async (promise: Promise<unknown>): Promise<unknown> => {
  const outcome = await settled(promise);
  if ('value' in outcome) throw new Error('Expected a rejection.');
  return outcome.error;
};

describe('the engines that tabs share', () => {
  test('are loaded once for each name, with progress for all who wait, and ended by the last who leaves', async () => {
    const log = newLog();
    const join = createEngineSharing(fakeEngine(log));
    const seen: [number[], number[]] = [[], []];
    const [a, b, other] = await Promise.all([
      join('one', { target, onProgress: ({ loadedBytes }) => seen[0].push(loadedBytes) }),
      join('one', { target, onProgress: ({ loadedBytes }) => seen[1].push(loadedBytes) }),
      join('two', { target }),
    ]);
    expect(log.created).toHaveLength(2);
    expect(seen[0]).toEqual([100, 200, 300].slice(3 - seen[0].length));
    expect(seen[1]).toEqual([200, 300]);
    expect([a.info.shared, b.info]).toEqual([true, a.info]);
    await a.dispose();
    await a.dispose();
    expect(log.disposed).toBe(0);
    expect((await b.generate([5], { maxNewTokens: 2 }).result).tokens).toEqual([5, 6]);
    await b.dispose();
    expect(log.disposed).toBe(1);
    await join('one', { target, contextLength: 9 });
    expect(log.created).toHaveLength(3);
    await other.dispose();
    expect(log.disposed).toBe(2);
  });

  test('refuse other options under their name, and say both', async () => {
    const join = createEngineSharing(fakeEngine(newLog()));
    await join('one', { target, draft: { method: 'ngram' } });
    const error = await rejection(join('one', { target, draft: null }));
    expect(error).toBeInstanceOf(InvalidOptionError);
    expect((error as Error).message).toContain('`draft` to be {"method":"ngram"}');
    expect((error as Error).message).toContain('"one", got null');
    expect(await rejection(join('one', { target, draft: { method: 'ngram' }, dtype: 'q8' }))).toBeInstanceOf(
      InvalidOptionError,
    );
    await join('one', { target, draft: { method: 'ngram' } });
    await join('two', { target, draft: { model: target, headTokens: 512 } });
    for (const draft of [target, { model: target, headTokens: 256 }]) {
      expect(await rejection(join('two', { target, draft }))).toBeInstanceOf(InvalidOptionError);
    }
    await join('two', { target, draft: { model: target, headTokens: 512 } });
  });

  test('go on loading when one who waits leaves, and stop when all have', async () => {
    const log = newLog();
    const join = createEngineSharing(fakeEngine(log));
    const [one, two] = [new AbortController(), new AbortController()];
    const first = rejection(join('one', { target: forever, signal: one.signal }));
    const second = rejection(join('one', { target: forever, signal: two.signal }));
    one.abort(new Error('first'));
    expect(((await first) as Error).message).toBe('first');
    expect(log.created[0]?.signal?.aborted).toBe(false);
    two.abort(new Error('second'));
    expect(((await second) as Error).message).toBe('second');
    expect(log.created[0]?.signal?.reason).toBeInstanceOf(EngineDisposedError);
  });

  test('are loaded anew after a load that failed, and after a device that stays lost', async () => {
    const log = newLog();
    const load = fakeEngine(log);
    let isLost = false;
    const join = createEngineSharing(async (options: EngineOptions): Promise<Engine> => {
      const engine = await load(options);
      const lost = { result: Promise.reject(new DeviceLostError('twice')) } as ReturnType<Engine['generate']>;
      lost.result.catch(() => {});
      return { ...engine, generate: (prompt, raw) => (isLost ? lost : engine.generate(prompt, raw)) };
    });
    expect(await rejection(join('one', { target: 'http://models.test/missing/' }))).toBeInstanceOf(ModelFetchError);
    const before = await join('one', { target });
    isLost = true;
    expect(await rejection(before.generate('x').result)).toBeInstanceOf(DeviceLostError);
    isLost = false;
    const after = await join('one', { target });
    expect(log.created).toHaveLength(3);
    await before.dispose();
    expect(await join('one', { target })).toMatchObject({ info: after.info });
    expect(log.created).toHaveLength(3); // the old one's end did not take the new one's name
  });
});

describe('the option `share`', () => {
  /** Every SharedWorker made is a port to one fake worker's code. */
  function stubWorkers(gpu: object | undefined) {
    const log = newLog();
    const api = fakeApi(log);
    const ports: (ReturnType<typeof fakeWorker> & { closed: boolean })[] = [];
    const own: ReturnType<typeof fakeWorker>[] = [];
    vi.stubGlobal('navigator', { gpu });
    vi.stubGlobal(
      'SharedWorker',
      class extends EventTarget {
        port = Object.assign(fakeWorker(log, 'ok', api), { closed: false, start() {}, close() {} });
        constructor() {
          super();
          this.port.close = () => {
            this.port.closed = true;
          };
          ports.push(this.port);
        }
      },
    );
    vi.stubGlobal('Worker', function Worker() {
      own.push(fakeWorker(log));
      return own.at(-1);
    });
    return { log, ports, own };
  }

  test('gives two pages one engine; each ends its own part, requests and listeners', async () => {
    const { log, ports, own } = stubWorkers({});
    const [a, b] = [await createEngine({ target, share: true }), await createEngine({ target, share: 'default' })];
    expect([log.created.length, ports.length, own.length]).toEqual([1, 2, 0]);
    expect([a.info.shared, b.info.shared]).toEqual([true, true]);
    b.on('round', () => {});
    const left = b.generate([7], { maxNewTokens: 1_000_000 });
    await left[Symbol.asyncIterator]().next(); // it runs
    const stays = a.generate([3], { maxNewTokens: 3 });
    await b.dispose();
    // The fake engine serves one at a time: this one's turn comes when that one has ended.
    expect(await settled(stays.result)).toMatchObject({ value: { tokens: [3, 4, 5] } });
    expect(log.disposed).toBe(0);
    expect(await rejection(b.metrics())).toBeInstanceOf(EngineDisposedError);
    expect([ports[0]?.closed, ports[1]?.closed]).toEqual([false, true]);
    const eventsOfB = ports[1]?.eventCount();
    await a.generate([3], { maxNewTokens: 3 }).result;
    expect(ports[1]?.eventCount()).toBe(eventsOfB);
    await a.dispose();
    expect(log.disposed).toBe(1);
  });

  test('gives each page an engine of its own where shared workers have no WebGPU, or there are none', async () => {
    const { log, ports, own } = stubWorkers(undefined);
    const first = await createEngine({ target, share: true });
    vi.stubGlobal('SharedWorker', undefined);
    const second = await createEngine({ target, share: true });
    expect([first.info.shared, second.info.shared]).toEqual([false, false]);
    expect([log.created.length, ports.length, own.length]).toEqual([2, 1, 2]);
    expect(ports[0]?.closed).toBe(true);
    await Promise.all([first.dispose(), second.dispose()]);
    expect(own.map(({ terminated }) => terminated)).toEqual([true, true]);
  });

  test('is refused with what one tab alone can have', async () => {
    stubWorkers({});
    const refused: [Parameters<typeof createEngine>[0], RegExp][] = [
      [{ target, share: 5 as never }, /`share` to be true, false or a name, got 5/],
      [{ target, share: ' ' }, /`share`/],
      [{ target: new File(['GGUF'], 'a.gguf'), share: true }, /`target` to be a URL or a repository/],
      [{ target, draft: new File(['GGUF'], 'a.gguf'), share: true }, /`draft` to be a URL/],
      [{ target, share: true, worker: () => fakeWorker(newLog()) }, /`worker` to be a URL.* got function/],
    ];
    for (const [options, words] of refused) {
      const error = await rejection(createEngine(options));
      expect(error).toBeInstanceOf(InvalidOptionError);
      expect((error as Error).message).toMatch(words);
    }
    vi.stubGlobal('SharedWorker', function SharedWorker() {
      throw new DOMException('no such origin', 'SecurityError');
    });
    expect(await rejection(createEngine({ target, share: true }))).toBeInstanceOf(WorkerError);
  });
});
