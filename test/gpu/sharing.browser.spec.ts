/** Tabs (frames, to the browser documents like any) that share one engine in a SharedWorker. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEngine, type Engine, InvalidOptionError } from '../../src/index.ts';
import { countsChannel, type LoadCounts } from './count_loads.ts';

const options = {
  target: '/models/stories-650k/',
  contextLength: 128,
  worker: new URL('./counting_worker.ts', import.meta.url),
  share: 'sharing.spec',
} as const;
const prompts = ['Once upon a time', 'One day, a girl'];
const indexUrl = new URL('../../src/index.ts', import.meta.url).href;

const channel = new BroadcastChannel(countsChannel);
afterAll(() => channel.close());

async function readCounts(): Promise<LoadCounts & { weights: number }> {
  const answer = new Promise<LoadCounts>((resolve) => {
    channel.onmessage = ({ data }) => resolve(data);
  });
  channel.postMessage('ask');
  const counts = await answer;
  return { ...counts, weights: counts.files.filter((file) => file.endsWith('.safetensors')).length };
}

/** A document of its own, with the package loaded into it. */
async function openTab(): Promise<{ createEngine: typeof createEngine; close: () => void }> {
  const frame = document.createElement('iframe');
  document.body.append(frame);
  const { createEngine: create } = await (frame.contentWindow as unknown as typeof globalThis).eval(
    `import(${JSON.stringify(indexUrl)})`,
  );
  return { createEngine: create, close: () => frame.remove() };
}

const write = async (engine: Engine, prompt: string): Promise<number[]> =>
  (await engine.generate(prompt, { maxNewTokens: 24 }).result).tokens;

let first: Engine;
let second: Engine;
let tab: Awaited<ReturnType<typeof openTab>>;
const progressOf = { first: 0, second: 0 };

beforeAll(async () => {
  tab = await openTab();
  // Both at once: the second one joins a load in progress.
  [first, second] = await Promise.all([
    createEngine({ ...options, onProgress: ({ loadedBytes }) => (progressOf.first = loadedBytes) }),
    tab.createEngine({ ...options, onProgress: ({ loadedBytes }) => (progressOf.second = loadedBytes) }),
  ]);
});

test('the weights are loaded once, onto one device, and both tabs have the same engine', async () => {
  expect(await readCounts()).toMatchObject({ weights: 1, devices: 1 });
  expect(first.info).toMatchObject({ shared: true, contextLength: 128 });
  expect(second.info).toEqual(first.info); // its load time too, which no second load would have
  expect(progressOf.first).toBeGreaterThan(100_000);
  expect(progressOf.second).toBe(progressOf.first);
});

test('both write at once what each writes alone, without one buffer more', async () => {
  const { buffers } = await readCounts();
  const alone = [await write(first, prompts[0] as string), await write(second, prompts[1] as string)];
  const heard: string[] = [];
  const end = first.on('request', ({ meta_info: meta }) => heard.push(meta.finish_reason.type));
  const together = await Promise.all([write(first, prompts[0] as string), write(second, prompts[1] as string)]);
  end();
  expect(together).toEqual(alone);
  expect(alone[0]).not.toEqual(alone[1]);
  expect(heard).toHaveLength(2); // events tell of all tabs
  expect((await readCounts()).buffers).toBe(buffers);
});

test('other options under the same name are refused, naming both', async () => {
  const error = await createEngine({ ...options, contextLength: 64 }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(InvalidOptionError);
  expect((error as Error).message).toMatch(/`contextLength` to be 128, .*"sharing\.spec", got 64\./);
});

test('a tab that closes in mid-story takes its requests along, and the others go on', async () => {
  const alone = await write(first, prompts[0] as string);
  const ends: string[] = [];
  const end = first.on('request', ({ meta_info: meta }) => ends.push(meta.finish_reason.type));
  second.generate(prompts[1] as string, { maxNewTokens: 100, ignoreEos: true });
  const staying = first.generate(prompts[0] as string, { maxNewTokens: 24 });
  let isClosed = false;
  for await (const { stats } of staying) {
    if (stats.index < 2 || isClosed) continue;
    isClosed = true;
    tab.close();
  }
  expect(isClosed).toBe(true);
  expect((await staying.result).tokens).toEqual(alone);
  await expect.poll(() => [...ends].sort(), { timeout: 10_000 }).toEqual(['abort', 'length']);
  end();
  expect(await readCounts()).toMatchObject({ weights: 1, devices: 1 });
});

test('the last dispose() ends the engine: who comes next loads again, with any options', async () => {
  const other = await createEngine(options);
  await other.dispose();
  await expect(other.metrics()).rejects.toThrow('disposed');
  expect(await write(first, prompts[0] as string)).toHaveLength(24);
  await first.dispose();
  const abort = new AbortController();
  const reason = new Error('enough');
  const onProgress = (): void => abort.abort(reason);
  const loading = createEngine({ ...options, contextLength: 64, signal: abort.signal, onProgress });
  await expect(loading).rejects.toBe(reason);
  expect(await readCounts()).toMatchObject({ weights: 2, devices: 2 });
});
