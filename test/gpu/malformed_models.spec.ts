/** Every malformed folder of test/unit/model through the whole engine, in the browser too: a typed error, soon, no trace. */
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { openGpu } from '../../src/gpu/device.ts';
import { urlSource } from '../../src/model/source.ts';
import { malformedFolders } from '../unit/model/malformed_folders.ts';
import { serve } from '../unit/model/serve.ts';
import { embeddedFiles, type ModelFolder, openEngine } from './engine_bench.ts';

const target = 'https://models.test/target/';
const draft = 'https://models.test/draft/';
const fileNames = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'model.safetensors',
];

let good: { target: ModelFolder; draft: ModelFolder };
beforeAll(async () => {
  good = {
    target: await embeddedFiles('stories-3m', fileNames),
    draft: await embeddedFiles('stories-650k', fileNames),
  };
});
afterEach(() => vi.unstubAllGlobals());

describe('a malformed folder', () => {
  it.each(malformedFolders)('$role: $name', async ({ role, mutate, answers, error, message }) => {
    const files = new Map(good.draft); // what the faults are written for, in either role
    mutate(files);
    const whole = { files: new Map(good.draft) };
    const damaged = { files, ...(answers && { answers }) };
    serve(role === 'target' ? { [target]: damaged, [draft]: whole } : { [target]: whole, [draft]: damaged });
    const gpu = await openGpu();
    const startedAt = performance.now();
    const caught = await openEngine(urlSource(target), urlSource(draft), {}, gpu).then(
      () => null,
      (reason: Error) => reason,
    );
    const elapsedMs = performance.now() - startedAt;
    expect(caught?.message).toMatch(message);
    expect(caught?.name).toBe(error);
    expect(elapsedMs).toBeLessThan(1000);
    expect(gpu.buffers.size).toBe(0);
    expect((await gpu.device.lost).reason).toBe('destroyed');
  });
});

it('a good pair loads after all of them', async () => {
  serve({ [target]: { files: new Map(good.target) }, [draft]: { files: new Map(good.draft) } });
  const engine = await openEngine(urlSource(target), urlSource(draft));
  const { tokens, meta_info: meta } = await engine.generate('Once upon a time', { maxNewTokens: 8, draftLength: 3 })
    .result;
  expect(tokens.length).toBe(8);
  expect(meta.spec_verify_ct).toBeGreaterThan(0);
});
