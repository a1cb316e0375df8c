import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { InvalidOptionError, WorkerError } from '../../../src/errors.ts';
import { createRun } from '../../../src/run.ts';
import type { Round } from '../../../src/types.ts';
import { drain, makeResult, makeRound, settled, watchRejections } from './fixtures.ts';

const rounds = [0, 1, 2].map((index) => makeRound(index));
const failure = new WorkerError('gone');

let rejections: ReturnType<typeof watchRejections>;
beforeEach(() => {
  rejections = watchRejections();
});
afterEach(async () => {
  const count = await rejections.count();
  rejections.stop();
  expect(count).toBe(0);
});

const iterate = (run: AsyncIterable<Round>) => run[Symbol.asyncIterator]();

describe('a run that nobody iterates', () => {
  test('completes: result resolves', async () => {
    const control = createRun();
    for (const round of rounds) control.push(round);
    control.finish(makeResult(rounds));
    expect((await control.run.result).tokens).toEqual([0, 1, 2]);
  });

  test('keeps its rounds for a later iteration', async () => {
    const control = createRun();
    for (const round of rounds) control.push(round);
    control.finish(makeResult(rounds));
    await control.run.result;
    expect((await drain(control.run)).rounds).toEqual(rounds);
  });

  test('fails without an unhandled rejection, and result still rejects for whoever asks later', async () => {
    const control = createRun();
    control.fail(failure);
    expect(await rejections.count()).toBe(0);
    await expect(control.run.result).rejects.toBe(failure);
  });
});

describe('iteration', () => {
  test('yields rounds pushed before, between and after the pulls, in order', async () => {
    const control = createRun();
    control.push(rounds[0]!);
    const collected = drain(control.run);
    await Promise.resolve();
    control.push(rounds[1]!);
    await new Promise(setImmediate);
    control.push(rounds[2]!);
    control.finish(makeResult(rounds));
    expect(await collected).toEqual({ rounds, error: null });
  });

  test('serves concurrent next() calls in order, and ends those that are left over', async () => {
    const control = createRun();
    const iterator = iterate(control.run);
    const pulls = [iterator.next(), iterator.next(), iterator.next(), iterator.next(), iterator.next()];
    for (const round of rounds) control.push(round);
    control.finish(makeResult(rounds));
    const steps = await Promise.all(pulls);
    expect(steps.map((step) => step.value)).toEqual([...rounds, undefined, undefined]);
    expect(steps.map((step) => step.done)).toEqual([false, false, false, true, true]);
  });

  test('yields what is queued, then throws the error once, then is done', async () => {
    const control = createRun();
    control.push(rounds[0]!);
    control.fail(failure);
    const iterator = iterate(control.run);
    expect(await iterator.next()).toEqual({ done: false, value: rounds[0] });
    await expect(iterator.next()).rejects.toBe(failure);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    await expect(control.run.result).rejects.toBe(failure);
  });

  test('throws the error once among waiting next() calls', async () => {
    const control = createRun();
    const iterator = iterate(control.run);
    const pulls = [iterator.next(), iterator.next(), iterator.next()].map(settled);
    control.fail(failure);
    const [first, ...others] = await Promise.all(pulls);
    expect(first).toEqual({ error: failure });
    for (const other of others) expect(other).toEqual({ value: { done: true, value: undefined } });
  });

  test('a second one throws, also after the end and while the first goes on', async () => {
    const control = createRun();
    const iterator = iterate(control.run);
    expect(() => iterate(control.run)).toThrow(InvalidOptionError);
    control.push(rounds[0]!);
    expect((await iterator.next()).value).toEqual(rounds[0]);
    control.finish(makeResult(rounds));
    await expect(
      (async () => {
        for await (const _ of control.run);
      })(),
    ).rejects.toThrow(/at most once/);
  });

  test('may go on with the same iterator', async () => {
    const control = createRun();
    for (const round of rounds) control.push(round);
    control.finish(makeResult(rounds));
    const iterator = iterate(control.run) as AsyncIterableIterator<Round>;
    await iterator.next();
    expect((await drain(iterator)).rounds).toEqual(rounds.slice(1));
  });
});

describe('leaving early', () => {
  test('break cancels once, drops the queue, and result resolves with what the producer says', async () => {
    const control = createRun();
    let cancels = 0;
    control.onCancel(() => {
      cancels += 1;
      control.push(rounds[2]!); // a round that was in flight
      control.finish(makeResult(rounds, 'left'));
    });
    control.push(rounds[0]!);
    control.push(rounds[1]!);
    const seen: Round[] = [];
    for await (const round of control.run) {
      seen.push(round);
      break;
    }
    expect(seen).toEqual([rounds[0]]);
    expect(cancels).toBe(1);
    const { meta_info, tokens } = await control.run.result;
    expect(meta_info.finish_reason).toEqual({ type: 'abort', message: 'left' });
    expect(tokens).toEqual([0, 1, 2]);
  });

  test('an error thrown in the loop body cancels too and reaches the caller', async () => {
    const control = createRun();
    let cancels = 0;
    control.onCancel(() => {
      cancels += 1;
    });
    control.push(rounds[0]!);
    const loop = (async () => {
      for await (const _ of control.run) throw new RangeError('mine');
    })();
    await expect(loop).rejects.toThrow(RangeError);
    expect(cancels).toBe(1);
  });

  test('return() ends waiting next() calls at once, before the producer has answered', async () => {
    const control = createRun();
    const iterator = iterate(control.run);
    const pull = iterator.next();
    expect(await iterator.return!()).toEqual({ done: true, value: undefined });
    expect(await pull).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  test('return() drops the queue, and what is pushed after it', async () => {
    const control = createRun();
    control.push(rounds[0]!);
    control.push(rounds[1]!);
    const iterator = iterate(control.run);
    await iterator.return!();
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    control.push(rounds[2]!);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  test('return() before the handler is known cancels when it comes', async () => {
    const control = createRun();
    await iterate(control.run).return!();
    let cancels = 0;
    control.onCancel(() => {
      cancels += 1;
    });
    expect(cancels).toBe(1);
  });

  test('return() twice, or after the end, cancels nothing more', async () => {
    const control = createRun();
    let cancels = 0;
    control.onCancel(() => {
      cancels += 1;
    });
    const iterator = iterate(control.run);
    await iterator.return!();
    await iterator.return!();
    expect(cancels).toBe(1);

    const ended = createRun();
    ended.onCancel(() => {
      cancels += 1;
    });
    ended.push(rounds[0]!);
    ended.finish(makeResult(rounds));
    await iterate(ended.run).return!();
    expect(cancels).toBe(1);
  });

  test('throw() cancels and rejects with what was thrown in', async () => {
    const control = createRun();
    let cancels = 0;
    control.onCancel(() => {
      cancels += 1;
    });
    const iterator = iterate(control.run);
    await expect(iterator.throw!(new RangeError('mine'))).rejects.toThrow('mine');
    expect(cancels).toBe(1);
    expect((await iterator.next()).done).toBe(true);
  });

  test('a failure after leaving reaches result only', async () => {
    const control = createRun();
    const iterator = iterate(control.run);
    await iterator.return!();
    control.fail(failure);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    await expect(control.run.result).rejects.toBe(failure);
  });
});

describe('the end', () => {
  test('counts once: nothing after it changes anything', async () => {
    const control = createRun();
    control.push(rounds[0]!);
    control.finish(makeResult(rounds.slice(0, 1)));
    control.push(rounds[1]!);
    control.fail(failure);
    control.finish(makeResult(rounds));
    expect((await control.run.result).tokens).toEqual([0]);
    expect(await drain(control.run)).toEqual({ rounds: [rounds[0]], error: null });
  });

  test('by failure counts once too', async () => {
    const control = createRun();
    control.fail(failure);
    control.finish(makeResult(rounds));
    await expect(control.run.result).rejects.toBe(failure);
    expect(await drain(control.run)).toEqual({ rounds: [], error: failure });
  });

  test('cancelling with a failure instead of a result rejects result', async () => {
    const control = createRun();
    control.onCancel(() => control.fail(failure));
    control.push(rounds[0]!);
    for await (const _ of control.run) break;
    await expect(control.run.result).rejects.toBe(failure);
  });
});
