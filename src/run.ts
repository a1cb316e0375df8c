import { InvalidOptionError } from './errors.ts';
import type { GenerateResult, GenerateRun, Round } from './types.ts';

/** A run and the hands that drive it; the engine and the worker's client each hold one per request. */
export type RunControl = {
  readonly run: GenerateRun;
  /** Queues a round. Ignored after the end, and after the consumer left. */
  push(round: Round): void;
  /** Ends the run: the queued rounds, then the end of the iteration; `result` resolves. Only the first end counts. */
  finish(result: GenerateResult): void;
  /** Ends the run by an error: the queued rounds, then the error, once; `result` rejects. Only the first end counts. */
  fail(error: unknown): void;
  /**
   * `handler` is called once, when the consumer leaves the iteration before the end (`break`, `return()`, `throw()`);
   * at once if that has happened. It has to bring about `finish` (`finish_reason` `abort`) or `fail`.
   */
  onCancel(handler: () => void): void;
};

type Waiter = { resolve: (step: IteratorResult<Round, undefined>) => void; reject: (error: unknown) => void };

const done: IteratorResult<Round, undefined> = Object.freeze({ done: true, value: undefined });

/** Makes the run object of one request. Nothing in here waits for the consumer; `maxNewTokens` bounds the queue. */
export function createRun(): RunControl {
  const queue: Round[] = [];
  const waiters: Waiter[] = [];
  let iterated = false;
  let ended = false;
  let left = false; // the consumer left: no round is kept any more
  let failure: { error: unknown } | null = null; // what the iteration has yet to throw
  let cancelHandler: (() => void) | null = null;

  const { promise: result, resolve: resolveResult, reject: rejectResult } = promiseWithResolvers<GenerateResult>();
  result.catch(() => {}); // a page that only iterates must not see an unhandled rejection

  /** Ends the waiting `next()` calls. Some wait only while the queue is empty, so they come after every round. */
  const releaseWaiters = (): void => {
    for (const waiter of waiters.splice(0)) {
      if (failure === null) waiter.resolve(done);
      else {
        waiter.reject(failure.error);
        failure = null;
      }
    }
  };

  const leave = (): void => {
    if (left) return;
    left = true;
    queue.length = 0;
    failure = null;
    releaseWaiters();
    if (!ended) cancelHandler?.();
  };

  const iterator: AsyncIterableIterator<Round, undefined> = {
    next() {
      const round = queue.shift();
      if (round !== undefined) return Promise.resolve({ done: false, value: round });
      if (!ended && !left) return new Promise((resolve, reject) => waiters.push({ resolve, reject }));
      if (failure === null) return Promise.resolve(done);
      const { error } = failure;
      failure = null;
      return Promise.reject(error);
    },
    async return() {
      leave();
      return done;
    },
    async throw(error: unknown) {
      leave();
      throw error;
    },
    [Symbol.asyncIterator]: () => iterator,
  };

  return {
    run: {
      result,
      [Symbol.asyncIterator]() {
        if (iterated) {
          throw new InvalidOptionError(
            'Expected a run to be iterated at most once, got a second iteration. ' +
              'Its rounds are gone: keep them while iterating, or read `await run.result`.',
          );
        }
        iterated = true;
        return iterator;
      },
    },
    push(round) {
      if (ended || left) return;
      const waiter = waiters.shift();
      if (waiter === undefined) queue.push(round);
      else waiter.resolve({ done: false, value: round });
    },
    finish(value) {
      if (ended) return;
      ended = true;
      resolveResult(value);
      releaseWaiters();
    },
    fail(error) {
      if (ended) return;
      ended = true;
      if (!left) failure = { error };
      rejectResult(error);
      releaseWaiters();
    },
    onCancel(handler) {
      cancelHandler = handler;
      if (left && !ended) handler();
    },
  };
}

/** `Promise.withResolvers`, which Node 20 has not. */
function promiseWithResolvers<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((resolvePromise, rejectPromise) => {
    resolve = resolvePromise;
    reject = rejectPromise;
  });
  return { promise, resolve, reject };
}
