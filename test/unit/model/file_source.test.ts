/** Models in files of the user: what the options accept, and what is read from them. */
import { mkdtempSync, openAsBlob, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ModelFetchError } from '../../../src/errors.ts';
import { openPair } from '../../../src/model/load.ts';
import { sourceAt } from '../../../src/model/location.ts';
import { readFile } from '../../../src/model/source.ts';
import { parseEngineOptions } from '../../../src/options.ts';
import { readFolder } from './folders.ts';
import { embeddedGguf } from './gguf_models.ts';

const file = (name: string, path = ''): File => {
  const made = new File([name], name.split('/').at(-1) as string);
  return path === '' ? made : Object.defineProperty(made, 'webkitRelativePath', { value: path });
};
/** As `<input type="file">` gives them. */
const fileList = (...files: File[]) => ({ ...files, length: files.length, item: (i: number) => files[i] ?? null });
const parsed = (target: unknown, draft: unknown = null) => parseEngineOptions({ target, draft });
const folderFiles = (model: 'stories-3m' | 'stories-650k', path = '') =>
  [...readFolder(model)].map(([name, bytes]) =>
    Object.defineProperty(new File([bytes as Uint8Array<ArrayBuffer>], name), 'webkitRelativePath', {
      value: `${path}${name}`,
    }),
  );

const missing = () => Promise.reject(new DOMException('not there', 'NotFoundError'));
/** As the origin's private file system gives it. */
const folderHandle = (name: string, files: readonly File[]) => ({
  kind: 'directory',
  name,
  getFileHandle(wanted: string) {
    const found = files.find((one) => one.name === wanted);
    return found === undefined
      ? missing()
      : Promise.resolve({ kind: 'file', name: wanted, getFile: async () => found });
  },
});

describe('the options', () => {
  test.each([
    ['a GGUF file', file('tiny-Q4_K.gguf'), 'tiny-Q4_K'],
    ['a file of another name', file('sha256-1234'), 'sha256-1234'],
    ['a Blob', new Blob(['GGUF']), 'model'],
    ['one GGUF file among others', [file('README.md'), file('tiny.GGUF')], 'tiny'],
    ['files without a folder', [file('config.json'), file('model.safetensors')], 'files'],
    ['a FileList of a folder', fileList(file('config.json', 'my model/config.json')), 'my model'],
    ['a folder that also holds GGUF files', [file('config.json'), file('a.gguf'), file('b.gguf')], 'files'],
    ['a folder handle', folderHandle('stories', []), 'stories'],
    ['the root of the private file system', folderHandle('', []), 'model'],
    ['a file handle', { kind: 'file', name: 'x.gguf', getFile: missing }, 'x'],
  ])('accept %s', (_, target, name) => {
    expect(parsed(target).modelName).toBe(name);
    expect(parsed('a/b', target).draft).not.toBeNull();
    expect(parsed('a/b', target).ngram).toBeNull();
  });

  test('of one name in several folders take the outermost file, and give a list that can cross to a worker', () => {
    const outer = file('config.json', 'm/config.json');
    const { target } = parsed(fileList(file('config.json', 'm/onnx/config.json'), outer));
    expect(target).toEqual([outer]);
    expect(Array.isArray(target)).toBe(true);
  });

  test.each([
    ['no files', [], /`target` to have at least one file, got none/],
    [
      'weights alone',
      file('model.safetensors'),
      /`target` to be a \.gguf file .*got the file "model\.safetensors" alone/,
    ],
    ['a folder without a config', [file('model.safetensors')], /`target` to have a config\.json or a \.gguf file/],
    ['two GGUF files', [file('a.gguf'), file('b.gguf')], /one model, got 2 models: "a\.gguf", "b\.gguf"/],
    [
      'two folders',
      [file('config.json', 'a/config.json'), file('config.json', 'b/config.json')],
      /got two called "config\.json"/,
    ],
    ['strings in a list', ['a/b', 'c/d'], /`target` .*got an array of length 2/],
  ])('refuse %s', (_, target, message) => {
    expect(() => parsed(target)).toThrow(message);
    expect(() => parsed('a/b', target)).toThrow(/`draft`/);
  });
});

const config = (source: Parameters<typeof readFile>[0]) => readFile(source, 'config.json', {});

describe('the files', () => {
  test('of a folder, of a handle and of one GGUF file are the same model', async () => {
    const list = parsed(folderFiles('stories-3m', 'stories-3m/')).target;
    const handle = parsed(folderHandle('stories-3m', folderFiles('stories-3m'))).target;
    const bytes = embeddedGguf('stories-3m');
    const gguf = parsed(new File([bytes], 'stories.gguf')).target;
    const draft = parsed(folderFiles('stories-650k')).target;
    for (const [location, url] of [
      [list, 'stories-3m/'],
      [handle, 'stories-3m/'],
      [gguf, 'stories.gguf'],
    ] as const) {
      const pair = await openPair(sourceAt(location, null), sourceAt(draft, null));
      expect(pair.target.url).toBe(url);
      expect(pair.target.config.layerCount).toBe((await openPair(sourceAt(list, null), null)).target.config.layerCount);
      expect(pair.draft?.url).toBe('files/');
    }
  });

  test('that are missing are named, with those that are there', async () => {
    const source = sourceAt(parsed([file('config.json'), file('tokenizer.json')]).target, null);
    expect(await readFile(source, 'generation_config.json', { optional: true })).toBeNull();
    const error = await readFile(source, 'model.safetensors', {}).catch((caught) => caught);
    expect(error).toBeInstanceOf(ModelFetchError);
    expect(error.message).toMatch(/\("config\.json", "tokenizer\.json"\) to include model\.safetensors\. Pass all/);
    const handle = sourceAt(parsed(folderHandle('stories', [])).target, null);
    await expect(config(handle)).rejects.toThrow(/the given folder to include config\.json/);
  });

  test('that changed since they were chosen, or may not be read, say so', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'foretoken-'));
    try {
      const path = join(folder, 'changed.gguf');
      writeFileSync(path, 'GGUF');
      const blob = await openAsBlob(path);
      writeFileSync(path, 'another file by now');
      const error = await openPair(sourceAt(blob, null), null).catch((caught) => caught);
      expect(error).toBeInstanceOf(ModelFetchError);
      expect(error.message).toMatch(/^Could not read model\.gguf: .*choose it again\.$/);
    } finally {
      rmSync(folder, { recursive: true });
    }
    const refused = { ...folderHandle('x', []), getFileHandle: () => Promise.reject(new Error('denied by the user')) };
    await expect(config(sourceAt(parsed(refused).target, null))).rejects.toThrow(
      /Could not read x\/config\.json: denied/,
    );
  });
});
