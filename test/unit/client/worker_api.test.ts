import { describe, expect, test } from 'vitest';
import { EngineDisposedError, ModelFetchError, WorkerError } from '../../../src/errors.ts';
import type { Engine } from '../../../src/types.ts';
import { createWorkerSession, type SessionEvent, toWireError } from '../../../src/worker_api.ts';
import { fakeApi, fakeEngine, newLog } from './fixtures.ts';

const target = 'http://models.test/target/';
const request = { runId: 1, prompt: [0], options: { maxNewTokens: 3 }, abortMessage: null };

describe('a session', () => {
  test('posts progress, then the rounds of a run, then its end, in this order', async () => {
    const events: SessionEvent[] = [];
    const session = createWorkerSession(fakeApi(newLog()), (event) => events.push(event));
    await session.load({ target });
    session.generate(request);
    while (events.at(-1)?.event !== 'finish') await new Promise((resolve) => setImmediate(resolve));
    const names = events.map(({ event }) => event);
    expect(names).toEqual(['progress', 'progress', 'progress', 'round', 'round', 'round', 'finish']);
    for (const event of events) expect(structuredClone(event)).toEqual(event);
  });

  test('posts what the engine tells of rounds and requests while it is to, and nothing else', async () => {
    const events: SessionEvent[] = [];
    const session = createWorkerSession(fakeApi(newLog()), (event) => events.push(event));
    expect(() => session.listen('round', true)).toThrow(WorkerError);
    await session.load({ target });
    const namesOf = async () => {
      events.length = 0;
      session.generate(request);
      while (!events.some(({ event }) => event === 'finish')) await new Promise((resolve) => setImmediate(resolve));
      return events.map((event) => (event.event === 'engine' ? event.name : event.event));
    };
    const silent = ['round', 'round', 'round', 'finish'];
    expect((await namesOf()).filter((name) => !silent.includes(name))).toEqual([]);
    session.listen('request', true);
    session.listen('request', true); // posts it once all the same
    expect((await namesOf()).filter((name) => name === 'request')).toHaveLength(1);
    session.listen('round', true);
    expect((await namesOf()).filter((name) => name === 'round')).toHaveLength(6);
    for (const event of events) expect(structuredClone(event)).toEqual(event);
    for (const name of ['round', 'request', 'batch'] as const) session.listen(name, false);
    expect(await namesOf()).toEqual(silent);
  });

  test('refuses calls before its load and a second load', async () => {
    const log = newLog();
    const session = createWorkerSession(fakeApi(log), () => {});
    expect(() => session.generate(request)).toThrow(WorkerError);
    await expect(session.metrics()).rejects.toThrow(WorkerError);
    await session.load({ target });
    await expect(session.load({ target })).rejects.toThrow(WorkerError);
    expect(log.created).toHaveLength(1);
  });

  test('disposed while loading: the load rejects, and an engine that comes all the same is freed', async () => {
    const log = newLog();
    let finishLoading: () => void = () => {};
    const slow = async (): Promise<Engine> => {
      await new Promise<void>((resolve) => {
        finishLoading = resolve;
      });
      return fakeEngine(log)({ target }); // deaf to the signal
    };
    const session = createWorkerSession({ ...fakeApi(log), createEngine: slow }, () => {});
    const loading = session.load({ target });
    const disposing = session.dispose();
    finishLoading();
    await expect(loading).rejects.toThrow(EngineDisposedError);
    await disposing;
    expect(log.disposed).toBe(1);
    expect(() => session.generate(request)).toThrow(EngineDisposedError);
    await expect(session.load({ target })).rejects.toThrow(WorkerError);
  });

  test('disposed before its load never loads', async () => {
    const log = newLog();
    const session = createWorkerSession(fakeApi(log), () => {});
    await session.dispose();
    await expect(session.load({ target })).rejects.toThrow(EngineDisposedError);
    expect(log.created).toHaveLength(0);
  });

  test('ignores the abort of a run that it does not know', () => {
    const session = createWorkerSession(fakeApi(newLog()), () => {});
    expect(() => session.abort(99, 'late')).not.toThrow();
  });
});

test('errors cross as name, message and stack; other values as text', () => {
  const error = new ModelFetchError('404');
  expect(toWireError(error)).toEqual({ name: 'ModelFetchError', message: '404', stack: error.stack });
  expect(toWireError('text')).toEqual({ name: 'Error', message: 'text' });
  expect(toWireError(undefined)).toEqual({ name: 'Error', message: 'undefined' });
});
