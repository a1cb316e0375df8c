/** checkModel over real files and pretended devices. What it foretells is compared with engines in test/gpu. */
import { describe, expect, test } from 'vitest';
import { type CheckOptions, checkPair } from '../../src/check_model.ts';
import { checkModel } from '../../src/engine.ts';
import { ModelFetchError, ModelFormatError, WebGPUUnavailableError } from '../../src/errors.ts';
import { fileSource } from '../../src/model/file_source.ts';
import type { ModelSource } from '../../src/model/source.ts';
import { jsonOf, readFolder, shardFolder } from './model/folders.ts';
import { embeddedGguf, sourceOf } from './model/gguf_models.ts';
import type { FolderFiles } from './model/malformed_folders.ts';

const adapterOf = (limits: Partial<GPUSupportedLimits> = {}): GPUAdapter =>
  ({
    info: { vendor: 'test', architecture: '', device: '', description: '' },
    features: new Set(['shader-f16']),
    limits: {
      maxBufferSize: 2 ** 28,
      maxStorageBufferBindingSize: 2 ** 27,
      maxStorageBuffersPerShaderStage: 8,
      ...limits,
    },
  }) as unknown as GPUAdapter;

/** A source that notes which bytes are read of it. */
function watched(files: FolderFiles): ModelSource & { bytes: Map<string, number> } {
  const source = fileSource([...files].map(([name, data]) => new File([data as Uint8Array<ArrayBuffer>], name)));
  const bytes = new Map<string, number>();
  return {
    ...source,
    bytes,
    async open(file, options) {
      const stream = await source.open(file, options);
      if (stream !== null) bytes.set(file, (bytes.get(file) ?? 0) + (stream.length ?? Number.NaN));
      return stream;
    },
  };
}

const plain: CheckOptions = {
  contextLength: null,
  dtype: 'f16',
  ngram: null,
  headTokens: null,
  roundsInFlight: 2,
  maxRunningRequests: 4,
  signal: null,
};
const check = (
  target: ModelSource,
  draft: ModelSource | null = null,
  options: Partial<CheckOptions> = {},
  adapter: GPUAdapter | Error = adapterOf(),
) => checkPair(adapter, target, draft, { ...plain, ...options });
const pair = () => [watched(readFolder('stories-3m')), watched(readFolder('stories-650k'))] as const;

describe('checkModel', () => {
  test('gives files, bytes and memory, and reads the weights’ headers only', async () => {
    const [target, draft] = pair();
    const result = await check(target, draft);
    expect(result).toMatchObject({ fits: true, problems: [], sameVocabulary: true, dtype: 'f16' });
    const sizes = [...readFolder('stories-3m'), ...readFolder('stories-650k')].map(([, data]) => data.length);
    const read = new Map(readFolder('stories-3m'));
    for (const { name, sizeBytes } of result.target.files)
      expect([name, sizeBytes]).toEqual([name, read.get(name)?.length]);
    expect(result.downloadBytes).toBeLessThanOrEqual(sizes.reduce((sum, size) => sum + size, 0));
    expect(result.downloadBytes).toBeGreaterThan(7e6);
    expect(target.bytes.get('model.safetensors')).toBeLessThan(20_000);
    const { weights, keysAndValues, logits, other, total } = result.gpuBytes;
    expect(weights).toBe(result.target.weightBytes.f16 + (result.draft?.weightBytes.f16 ?? 0));
    expect(weights + keysAndValues + logits + other).toBe(total);
    expect(result.target.weightBytes.q8 / result.target.weightBytes.f16).toBeCloseTo(9 / 16, 1);
    expect(result.needs.limits.maxStorageBuffersPerShaderStage).toBeLessThanOrEqual(8);
    expect(structuredClone(result)).toEqual(result);
  });

  test('half the context takes about half the keys and values, a lookup takes no second model', async () => {
    const [target] = pair();
    const whole = await check(target);
    const half = await check(target, null, {
      contextLength: whole.contextLength / 2,
      ngram: { shortest: 2, longest: 4 },
    });
    expect(half.gpuBytes.keysAndValues / whole.gpuBytes.keysAndValues).toBeCloseTo(0.5, 0);
    expect(half).toMatchObject({ draft: null, sameVocabulary: null, fits: true });
  });

  test('a draft of fewer tokens takes the smaller logits and nothing else less', async () => {
    const [target, draft] = pair();
    const whole = await check(target, draft);
    const limited = await check(target, draft, { headTokens: 512 });
    // Logits for a token of each of 4 requests, their distributions for 32 rows; a chunk of 8 bytes for each 1,024.
    const saved = 4 * (2048 - 512) * (4 + 32) + 4 * 8;
    expect(whole.gpuBytes.logits - limited.gpuBytes.logits).toBe(saved);
    expect(whole.gpuBytes.total - limited.gpuBytes.total).toBe(saved);
    expect(await check(target, draft, { headTokens: 4096 })).toEqual(whole);
    expect(await check(target, null, { headTokens: 512 })).toEqual(await check(target));
  });

  test('knows the size of a GGUF file and of shards from their heads', async () => {
    const gguf = embeddedGguf('stories-3m');
    const fromGguf = await check(sourceOf(gguf));
    expect(fromGguf.target.files).toEqual([{ name: 'model.gguf', sizeBytes: gguf.length }]);
    const { files } = shardFolder(readFolder('stories-3m'), (_, i) => `model-${(i % 3) + 1}.safetensors`);
    const fromShards = await check(watched(files));
    const shards = fromShards.target.files.filter(({ name }) => name.startsWith('model-'));
    expect(shards).toEqual(
      [1, 2, 3].map((n) => ({
        name: `model-${n}.safetensors`,
        sizeBytes: files.get(`model-${n}.safetensors`)?.length,
      })),
    );
    expect(fromShards.gpuBytes).toEqual(fromGguf.gpuBytes);
  });

  test('lists what is missing on the device', async () => {
    const [target] = pair();
    const small = await check(
      target,
      null,
      {},
      adapterOf({ maxStorageBufferBindingSize: 1_000_000, maxStorageBuffersPerShaderStage: 4 }),
    );
    expect(small.fits).toBe(false);
    expect(new Set(small.problems.map(({ code }) => code))).toEqual(new Set(['DeviceLimitError']));
    expect(small.problems[0]?.message).toMatch(
      /fit in one buffer binding, it needs \d+ bytes and this device allows 1000000/,
    );
    expect(small.problems.at(-1)?.message).toMatch(/bind \d storage buffers per shader stage, it allows 4/);
    const none = await check(target, null, {}, new WebGPUUnavailableError('none here'));
    expect(none).toMatchObject({ fits: false, device: null });
    expect(none.problems).toEqual([{ code: 'WebGPUUnavailableError', message: 'none here' }]);
  });

  test('lists a vocabulary that differs, and a context beyond the model’s', async () => {
    const files = new Map(readFolder('stories-650k'));
    const json = jsonOf(files, 'tokenizer.json') as { model: { vocab: Record<string, number> } };
    const [first, second] = Object.keys(json.model.vocab).slice(300, 302) as [string, string];
    const { vocab } = json.model;
    [vocab[first], vocab[second]] = [vocab[second] as number, vocab[first] as number];
    files.set('tokenizer.json', new TextEncoder().encode(JSON.stringify(json)));
    const result = await check(watched(readFolder('stories-3m')), watched(files), { contextLength: 10 ** 6 });
    expect(result).toMatchObject({ fits: false, sameVocabulary: false });
    expect(result.problems.map(({ code }) => code)).toEqual(['VocabularyMismatchError', 'InvalidOptionError']);
    expect(result.contextLength).toBe(result.target.maxContextLength);
  });

  test('throws where the files are no model', async () => {
    const files = new Map(readFolder('stories-3m'));
    files.delete('model.safetensors');
    await expect(check(watched(files))).rejects.toThrow(ModelFetchError);
    files.set('model.safetensors', readFolder('stories-650k').get('model.safetensors') as Uint8Array);
    await expect(check(watched(files))).rejects.toThrow(ModelFormatError);
    files.set('model.safetensors', new Uint8Array([9, 9, 9, 9, 9, 9, 9, 9, 9]));
    await expect(check(watched(files))).rejects.toThrow(/header length/);
    await expect(checkModel({ target: 'a/b', dtyp: 'q4' } as never)).rejects.toThrow(/`dtype`/);
  });
});
