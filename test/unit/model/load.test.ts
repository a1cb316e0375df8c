import { afterEach, describe, expect, test, vi } from 'vitest';
import { InvalidOptionError, ModelFetchError } from '../../../src/errors.ts';
import { streamOf } from '../../../src/model/body.ts';
import { type ModelSource, urlSource } from '../../../src/model/source.ts';
import type { LoadProgress } from '../../../src/types.ts';
import { readFolder } from './folders.ts';
import { loadModelFiles, loadPair } from './loaded.ts';
import { type FolderFiles, malformedFolders } from './malformed_folders.ts';
import { serve } from './serve.ts';

const TARGET = 'https://models.test/target/';
const DRAFT = 'https://models.test/draft/';
const good = { target: readFolder('stories-3m'), draft: readFolder('stories-650k') };

afterEach(() => vi.unstubAllGlobals());

const loadServedPair = (options: Parameters<typeof loadPair>[2] = {}) =>
  loadPair(urlSource(TARGET), urlSource(DRAFT), options);

async function rejection(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => {
      throw new Error('expected a rejection');
    },
    (error) => error,
  );
}

describe('malformed folders', () => {
  test('there are at least twenty, with names of their own', () => {
    expect(new Set(malformedFolders.map(({ name }) => name)).size).toBe(malformedFolders.length);
    expect(malformedFolders.length).toBeGreaterThanOrEqual(20);
  });

  test.each(malformedFolders)('$role: $name', async ({ role, mutate, answers, error, message }) => {
    // The faults are written for the smaller model, whichever role it plays.
    const files: FolderFiles = new Map(good.draft);
    mutate(files);
    const damaged = { files, ...(answers ? { answers } : {}) };
    const whole = { files: good.draft };
    serve(role === 'target' ? { [TARGET]: damaged, [DRAFT]: whole } : { [TARGET]: whole, [DRAFT]: damaged });

    const start = performance.now();
    const got = await rejection(loadServedPair());
    expect(performance.now() - start).toBeLessThan(1000);
    expect(got.message).toMatch(message);
    expect(got.name).toBe(error);
    // Says what to do about it, too.
    expect(got.message).toMatch(/\. (Use|Download|Check|Convert|The|Try|Expected|Pass)/);

    serve({ [TARGET]: { files: good.target }, [DRAFT]: { files: good.draft } });
    const pair = await loadServedPair();
    expect(pair.draft?.tensors.size).toBe(20);
  });
});

describe('loadPair', () => {
  test('loads the embedded pair', async () => {
    serve({ [TARGET]: { files: good.target }, [DRAFT]: { files: good.draft } });
    const { target, draft } = await loadServedPair();
    expect(target.url).toBe(TARGET);
    expect(target.config).toMatchObject({ hiddenSize: 256, layerCount: 4, headCount: 4, kvHeadCount: 2, headDim: 64 });
    expect(draft?.config).toMatchObject({ hiddenSize: 128, layerCount: 2, eosTokenIds: [0], bosTokenId: 0 });
    expect(target.tensors.get('model.embed_tokens.weight')).toMatchObject({ dtype: 'F16', shape: [2048, 256] });
    expect(target.tokenizer.encode('Once')[0]).toBe(0);
  });

  test('a target alone, without the optional files', async () => {
    const files = new Map(good.target);
    files.delete('generation_config.json');
    files.delete('tokenizer_config.json');
    serve({ [TARGET]: { files } });
    const { target, draft } = await loadPair(urlSource(TARGET), null);
    expect(draft).toBeNull();
    expect(target.config.eosTokenIds).toEqual([0]);
  });

  test('a start page in the place of optional files counts as absent', async () => {
    const files = new Map(good.target);
    const page = new TextEncoder().encode('\n<!DOCTYPE html><html></html>');
    files.set('generation_config.json', page);
    files.set('tokenizer_config.json', page);
    serve({ [TARGET]: { files } });
    await expect(loadPair(urlSource(TARGET), null)).resolves.toMatchObject({ target: { url: TARGET } });
  });

  test('progress of both models never falls and ends at the size of the weights', async () => {
    serve({ [TARGET]: { files: good.target }, [DRAFT]: { files: good.draft } });
    const reports: LoadProgress[] = [];
    await loadServedPair({ onProgress: (progress) => reports.push(progress) });
    for (const model of ['target', 'draft'] as const) {
      const own = reports.filter((report) => report.model === model);
      const size = good[model].get('model.safetensors')!.length;
      expect(own[0]).toEqual({ model, loadedBytes: 0, totalBytes: size });
      expect(own.at(-1)).toEqual({ model, loadedBytes: size, totalBytes: size });
      expect(own.length).toBeGreaterThan(10);
      expect(own.length).toBeLessThan(205);
      own.slice(1).forEach((report, i) => {
        expect(report.loadedBytes).toBeGreaterThan(own[i]!.loadedBytes);
      });
    }
  });

  test('no weight is requested before the small files and the vocabularies are checked', async () => {
    const files = new Map(good.draft);
    malformedFolders.find(({ name }) => name === 'draft with two tokens swapped')!.mutate(files);
    const requests = serve({ [TARGET]: { files: good.target }, [DRAFT]: { files } });
    await expect(loadServedPair()).rejects.toThrow(/vocabulary/);
    expect(requests.filter((url) => url.includes('tokenizer.json'))).toHaveLength(2);
    expect(requests.filter((url) => url.includes('safetensors'))).toEqual([]);
  });

  test('the first failure aborts the other download and is the one that is told', async () => {
    let abortedWith: unknown;
    const hanging: ModelSource = {
      url: TARGET,
      open: async (file, { signal }) => {
        const bytes = good.target.get(file);
        if (file !== 'model.safetensors') return bytes ? streamOf(bytes) : null;
        return new Promise((_, reject) => {
          signal?.addEventListener('abort', () => {
            abortedWith = signal.reason;
            reject(new Error('a second error, of which nobody should hear'));
          });
        });
      },
    };
    const files = new Map(good.draft);
    files.delete('model.safetensors');
    serve({ [DRAFT]: { files } });
    const error = await rejection(loadPair(hanging, urlSource(DRAFT)));
    expect(error).toBeInstanceOf(ModelFetchError);
    expect(error.message).toContain(`${DRAFT}model.safetensors`);
    expect(abortedWith).toBe(error);
  });

  test.each([0, 1, 200_000, 3_000_000])(
    'an abort after %i bytes rejects with the reason of the signal',
    async (bytes) => {
      serve({ [TARGET]: { files: good.target }, [DRAFT]: { files: good.draft } });
      const controller = new AbortController();
      const reason = new Error('the user left');
      const onProgress = ({ model, loadedBytes }: LoadProgress) => {
        if (model === 'target' && loadedBytes >= bytes) controller.abort(reason);
      };
      await expect(loadServedPair({ signal: controller.signal, onProgress })).rejects.toBe(reason);
    },
  );

  test('a signal that is aborted already sends no request', async () => {
    const requests = serve({});
    await expect(loadServedPair({ signal: AbortSignal.abort('no') })).rejects.toBe('no');
    expect(requests).toEqual([]);
  });
});

describe('loadModelFiles', () => {
  test('names the role in its progress', async () => {
    serve({ [DRAFT]: { files: good.draft } });
    const roles = new Set<string>();
    const files = await loadModelFiles(urlSource(DRAFT), {
      role: 'draft',
      onProgress: ({ model }) => roles.add(model),
    });
    expect([...roles]).toEqual(['draft']);
    expect(files.tensors.size).toBe(20);
  });

  test('generation_config.json replaces the end-of-sequence ids', async () => {
    const files = new Map(good.draft);
    files.set('generation_config.json', new TextEncoder().encode('{"eos_token_id": [7, 9]}'));
    serve({ [DRAFT]: { files } });
    const { config } = await loadModelFiles(urlSource(DRAFT), { role: 'draft' });
    expect(config.eosTokenIds).toEqual([7, 9]);
  });

  test('a tokenizer object takes the place of tokenizer.json', async () => {
    const files = new Map(good.draft);
    files.delete('tokenizer.json');
    const requests = serve({ [TARGET]: { files } });
    const tokenizer = { encode: () => [5, 6], decode: (ids: number[]) => ids.join(' ') };
    const loaded = await loadModelFiles(urlSource(TARGET), { role: 'target', tokenizer });
    expect(loaded.tokenizer.encode('x')).toEqual([5, 6]);
    expect(requests.filter((url) => url.includes('tokenizer.json'))).toEqual([]);
    const wrong = { encode: 'text' } as unknown as typeof tokenizer;
    await expect(loadModelFiles(urlSource(TARGET), { role: 'target', tokenizer: wrong })).rejects.toThrow(
      InvalidOptionError,
    );
  });
});
