/** `engine.chat` across a worker. What it makes of a request is tested in test/unit/chat. */
import { expect, test, vi } from 'vitest';
import type { ChatMessage } from '../../../src/chat_types.ts';
import { createEngine } from '../../../src/client.ts';
import { EngineDisposedError, InvalidOptionError, WorkerError } from '../../../src/errors.ts';
import { fakeWorker, newLog, settled, watchRejections } from './fixtures.ts';

const messages: ChatMessage[] = [{ role: 'user', content: 'Hello' }];

async function startEngine() {
  const log = newLog();
  const worker = fakeWorker(log);
  const engine = await createEngine({ target: 'http://models.test/tiny/', worker: () => worker });
  return { engine, worker, log };
}

const rejection = async (promise: Promise<unknown>): Promise<unknown> => {
  const outcome = await settled(promise);
  return 'error' in outcome ? outcome.error : new Error(`no rejection, but ${JSON.stringify(outcome.value)}`);
};

test('renders where the model is, and generates from its tokens', async () => {
  const { engine, log } = await startEngine();
  expect(await engine.chat.applyTemplate(messages)).toEqual({ text: 'user: Hello\n', tokens: [100] });
  const { choices, model } = await engine.chat.completions.create({ messages, max_tokens: 3, seed: 1 });
  expect(choices[0].message.content).toBe('t100 t101 t102 ');
  expect(choices[0].finish_reason).toBe('length');
  expect(model).toBe('tiny');
  expect(log.generated[0]).toMatchObject({ maxNewTokens: 3, temperature: 1, seed: 1 });
  await engine.dispose();
});

test('streams, and a stream that is left is aborted in the worker', async () => {
  const { engine, worker } = await startEngine();
  const texts: string[] = [];
  for await (const { choices } of await engine.chat.completions.create({ messages, max_tokens: 3, stream: true })) {
    texts.push(choices[0]?.delta.content ?? 'end');
  }
  expect(texts).toEqual(['', 't100 ', 't101 ', 't102 ', 'end']);

  const long = { messages, stream: true } as const;
  for await (const { choices } of await engine.chat.completions.create(long)) {
    if (choices[0]?.delta.content === 't101 ') break;
  }
  const events = worker.eventCount();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(worker.eventCount() - events).toBeLessThan(5);
  await engine.dispose();
});

test('what the template refuses keeps its class, and what is wrong with a request never crosses', async () => {
  const { engine } = await startEngine();
  const refused = [{ role: 'user', content: 'refuse' }] as const;
  for (const stream of [true, false]) {
    const error = await rejection(engine.chat.completions.create({ messages: refused, stream }));
    expect(error).toBeInstanceOf(InvalidOptionError);
    expect((error as Error).message).toBe('The template refuses.');
  }
  expect(await rejection(engine.chat.applyTemplate(refused))).toBeInstanceOf(InvalidOptionError);
  const crossing = vi.spyOn(MessagePort.prototype, 'postMessage');
  expect(await rejection(engine.chat.completions.create({ messages: [] }))).toBeInstanceOf(InvalidOptionError);
  expect(crossing).not.toHaveBeenCalled();
  await engine.chat.applyTemplate(messages);
  expect(crossing).toHaveBeenCalled();
  crossing.mockRestore();
  await engine.dispose();
});

test('a worker that dies, and dispose, end streams and answers with their errors', async () => {
  const rejections = watchRejections();
  for (const [end, errorClass] of [
    ['crash', WorkerError],
    ['dispose', EngineDisposedError],
  ] as const) {
    const { engine, worker } = await startEngine();
    const endless = { messages, max_tokens: 100_000 }; // a few tokens may be there before the engine ends
    const stream = await engine.chat.completions.create({ ...endless, stream: true });
    const iteration = (async () => {
      for await (const _ of stream);
    })();
    const whole = engine.chat.completions.create(endless);
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (end === 'crash') worker.dispatchEvent(Object.assign(new Event('error'), { message: 'Out of memory' }));
    else void engine.dispose();
    expect(await rejection(iteration)).toBeInstanceOf(errorClass);
    expect(await rejection(whole)).toBeInstanceOf(errorClass);
    expect(await rejection(engine.chat.completions.create({ messages }))).toBeInstanceOf(errorClass);
    await engine.dispose();
  }
  expect(await rejections.count()).toBe(0);
  rejections.stop();
});
