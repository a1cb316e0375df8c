import { afterEach, describe, expect, test, vi } from 'vitest';
import { ModelFormatError } from '../../../src/errors.ts';
import { openModel, readWeights } from '../../../src/model/load.ts';
import { parseShardIndex } from '../../../src/model/shards.ts';
import { urlSource } from '../../../src/model/source.ts';
import { readSafetensors, type Tensor, writeSafetensors } from '../../reference/checkpoint.ts';
import { readFolder, shardFolder } from './folders.ts';
import { loadModelFiles } from './loaded.ts';
import type { FolderFiles } from './malformed_folders.ts';
import { serve } from './serve.ts';

const URL = 'https://models.test/sharded/';
const INDEX = 'model.safetensors.index.json';
const good = readFolder('stories-650k');
const shardName = (i: number) => `model-0000${i + 1}-of-00003.safetensors`;
const inThree = (_: string, i: number) => shardName(i % 3);

afterEach(() => vi.unstubAllGlobals());

const load = (files: FolderFiles, options: Partial<Parameters<typeof loadModelFiles>[1]> = {}) => {
  const requests = serve({ [URL]: { files } });
  const promise = loadModelFiles(urlSource(URL), { role: 'target', ...options });
  return { requests, promise };
};
const weightRequests = (requests: string[]) =>
  requests.filter((url) => url.endsWith('.safetensors')).map((url) => url.slice(URL.length));
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('none'),
    (error) => error,
  );
const setIndex = (files: FolderFiles, index: unknown) =>
  files.set(INDEX, new TextEncoder().encode(JSON.stringify(index)));

describe('a folder in shards', () => {
  test('has the tensors of the same folder in one file', async () => {
    const { requests, promise } = load(shardFolder(good, inThree).files);
    const { tensors } = await promise;
    const expected = readSafetensors(good.get('model.safetensors')!);
    expect([...tensors.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, { dtype, shape, data }] of expected) {
      expect(tensors.get(name)).toMatchObject({ dtype, shape });
      expect(Buffer.compare(tensors.get(name)!.data, data)).toBe(0);
    }
    expect(weightRequests(requests)).toEqual(['model.safetensors', ...[0, 1, 2].map(shardName)]);
  });

  test('is not looked for where the weights are in one file', async () => {
    const { requests, promise } = load(new Map([...shardFolder(good, inThree).files, ...good]));
    await promise;
    expect(weightRequests(requests)).toEqual(['model.safetensors']);
    expect(requests).not.toContain(URL + INDEX);
  });

  test.each([
    ['as claimed', 0, null],
    ['claimed too small', -1_000_000, null],
    ['claimed too large', 1e12, null],
    ['not claimed', Number.NaN, 'unknown'],
  ])('progress is one sum, with a total %s', async (_, error, unknown) => {
    const { files, index } = shardFolder(good, inThree);
    const size = [0, 1, 2].reduce((sum, i) => sum + files.get(shardName(i))!.length, 0);
    setIndex(files, { ...index, metadata: { total_size: index.metadata.total_size + error } });
    const reports: (readonly [number, number | null])[] = [];
    await load(files, { onProgress: ({ loadedBytes, totalBytes }) => reports.push([loadedBytes, totalBytes]) }).promise;
    expect(reports[0]![0]).toBe(0);
    expect(reports.at(-1)).toEqual([size, size]);
    reports.slice(1).forEach(([loaded], i) => {
      expect(loaded).toBeGreaterThanOrEqual(reports[i]![0]);
    });
    for (const [loaded, total] of reports.slice(0, -1)) expect(loaded).toBeLessThan(total ?? size);
    expect(reports.filter(([loaded, total]) => loaded === total)).toHaveLength(1);
    expect(reports[0]![1] === null).toBe(unknown !== null);
  });

  test('one file after another: the second is not asked for before the first has been used', async () => {
    const { files } = shardFolder(good, inThree);
    const requests = serve({ [URL]: { files } });
    const model = await openModel(urlSource(URL), 'target');
    const seen: number[] = [];
    for await (const _ of readWeights(model, 'target')) seen.push(weightRequests(requests).length);
    expect([...new Set(seen)]).toEqual([2, 3, 4]);
  });
});

describe('what the model does not need', () => {
  const vision: Tensor = { dtype: 'F16', shape: [500_000], data: new Uint8Array(1_000_000).fill(1) };
  const extra = new Map([['vision.weight', vision]]);

  test('is not fetched from a file of its own', async () => {
    const place = (name: string, i: number) => (name.startsWith('vision') ? 'vision.safetensors' : inThree(name, i));
    const { requests, promise } = load(shardFolder(good, place, extra).files);
    await promise;
    expect(weightRequests(requests)).not.toContain('vision.safetensors');
    expect(weightRequests(requests)).toHaveLength(4);
  });

  test.each(['in a shard', 'in the one file'])('is passed over %s', async (where) => {
    const whole = new Map([...readSafetensors(good.get('model.safetensors')!), ...extra]);
    const files =
      where === 'in a shard'
        ? shardFolder(good, () => shardName(0), extra).files
        : new Map(good).set('model.safetensors', writeSafetensors(whole));
    const { tensors } = await load(files).promise;
    expect(tensors.size).toBe(20);
    expect(tensors.has('vision.weight')).toBe(false);
  });
});

describe('a malformed index', () => {
  const place = (file: unknown) => ({ weight_map: { 'model.norm.weight': file } });
  test.each([
    ['a list', [], /a JSON object with a weight_map/],
    ['no map', { metadata: {} }, /a JSON object with a weight_map/],
    ['a list for a map', { weight_map: ['a'] }, /a JSON object with a weight_map/],
    ['a number for a file', place(1), /"model\.norm\.weight" in 1, expected the name/],
    ['a path upwards', place('../x.safetensors'), /in "\.\.\/x\.safetensors", expected/],
    ['an absolute path', place('/etc/x.safetensors'), /expected the name/],
    ['another host', place('https://evil.test/x.safetensors'), /expected the name/],
    ['another host without a scheme', place('//evil.test/x.safetensors'), /expected the name/],
    ['a folder', place('a/x.safetensors'), /expected the name/],
    ['a backslash', place('..\\x.safetensors'), /expected the name/],
    ['an escaped slash', place('..%2Fx.safetensors'), /expected the name/],
    ['a query', place('x?y=.safetensors'), /expected the name/],
    ['a hidden file', place('.x.safetensors'), /expected the name/],
    ['another kind of file', place('x.bin'), /expected the name/],
    ['a line break', place('x.safetensors\n'), /expected the name/],
    [
      'too many files',
      { weight_map: Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`t${i}`, `s${i}.safetensors`])) },
      /names 1001 files, expected at most 1000/,
    ],
  ])('%s', (_, json, message) => {
    expect(() => parseShardIndex(json, 'index.json')).toThrow(ModelFormatError);
    expect(() => parseShardIndex(json, 'index.json')).toThrow(message);
    expect(() => parseShardIndex(json, 'index.json')).toThrow(/^index\.json is not a valid index/);
  });

  test('and nothing outside of the folder is asked for', async () => {
    const { files, index } = shardFolder(good, inThree);
    index.weight_map['model.norm.weight'] = '../../other/x.safetensors';
    setIndex(files, index);
    const { requests, promise } = load(files);
    expect((await failure(promise)).message).toMatch(/index\.json is not a valid index/);
    expect(requests.every((url) => url.startsWith(URL))).toBe(true);
    expect(weightRequests(requests)).toEqual(['model.safetensors']);
  });

  test('a claimed size of any kind is no matter', () => {
    for (const size of [-1, 1.5, '12', null, Number.MAX_VALUE]) {
      expect(parseShardIndex({ metadata: { total_size: size }, weight_map: {} }, 'x').claimedBytes).toBeNull();
    }
    expect(parseShardIndex({ metadata: { total_size: 12 }, weight_map: {} }, 'x').claimedBytes).toBe(12);
  });
});

describe('shards that do not fit', () => {
  const NORM = 'model.norm.weight';
  const faults: [string, (files: FolderFiles, index: { weight_map: Record<string, string> }) => void, RegExp][] = [
    [
      'the index lacks a tensor: nothing is fetched',
      (_, { weight_map: map }) => delete map[NORM],
      /index\.json: tensor model\.norm\.weight is missing/,
    ],
    [
      'the index has a tensor that has no place',
      (_, { weight_map: map }) => {
        map['model.layers.0.self_attn.q_proj.bias'] = shardName(0);
      },
      /index\.json: tensor "model\.layers\.0\.self_attn\.q_proj\.bias" has no place/,
    ],
    ['a shard is missing', (files) => files.delete(shardName(1)), /sharded\/model-00002-of-00003\.safetensors: .*404/],
    [
      'a shard lacks a tensor',
      (files) => {
        const tensors = readSafetensors(files.get(shardName(0))!);
        tensors.delete('model.embed_tokens.weight');
        files.set(shardName(0), writeSafetensors(tensors));
      },
      /model-00001-of-00003\.safetensors: tensor model\.embed_tokens\.weight is missing, which .*index\.json places there/,
    ],
    [
      'a tensor stands in two shards',
      (files) => {
        const norm = readSafetensors(good.get('model.safetensors')!).get(NORM)!;
        for (const i of [0, 1, 2]) {
          const tensors = readSafetensors(files.get(shardName(i))!);
          files.set(shardName(i), writeSafetensors(tensors.set(NORM, norm)));
        }
      },
      /tensor "model\.norm\.weight" is not placed there/,
    ],
    [
      'a shard is damaged',
      (files) => files.set(shardName(2), files.get(shardName(2))!.slice(0, -10)),
      /model-00003-of-00003\.safetensors is not a valid safetensors file/,
    ],
    [
      'a shard has another shape',
      (files) => {
        for (const i of [0, 1, 2]) {
          const tensors = readSafetensors(files.get(shardName(i))!);
          const norm = tensors.get(NORM);
          if (norm) files.set(shardName(i), writeSafetensors(tensors.set(NORM, { ...norm, shape: [2, 64] })));
        }
      },
      /-of-00003\.safetensors: tensor model\.norm\.weight has the shape \[2, 64\], expected \[128\]/,
    ],
  ];
  test.each(faults)('%s', async (_, mutate, message) => {
    const { files, index } = shardFolder(good, inThree);
    mutate(files, index);
    setIndex(files, index);
    const { requests, promise } = load(files);
    const error = await failure(promise);
    expect(error.message).toMatch(message);
    expect(error.name).toMatch(/^Model(Fetch|Format)Error$/);
    if (error.message.includes('missing, which config.json')) {
      expect(weightRequests(requests)).toEqual(['model.safetensors']);
    }
  });
});
