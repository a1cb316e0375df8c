/** Which file of a folder gives the chat template. */
import { describe, expect, test } from 'vitest';
import { ModelFetchError, ModelFormatError } from '../../../src/errors.ts';
import { streamOf } from '../../../src/model/body.ts';
import { openFolder } from '../../../src/model/folder.ts';
import type { ModelSource } from '../../../src/model/source.ts';
import { jsonOf, readFolder } from '../model/folders.ts';

const files = readFolder('stories-3m');
const config = jsonOf(files, 'tokenizer_config.json');
const bytes = (value: unknown) =>
  new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value)) as Uint8Array;

/** The embedded model with other or more files, and the files that were asked for. */
function folder(changes: Record<string, unknown>) {
  const asked: string[] = [];
  const all = new Map([...files, ...Object.entries(changes).map(([file, value]) => [file, bytes(value)] as const)]);
  const source: ModelSource = {
    url: 'https://models.test/stories/',
    async open(file, { optional }) {
      asked.push(file);
      if (!all.has(file) && !optional) throw new ModelFetchError(`${file} is missing`);
      const found = all.get(file);
      return found ? streamOf(found) : null;
    },
  };
  return { source, asked };
}

const open = (source: ModelSource, wantsChat = true, tokenizer?: Parameters<typeof openFolder>[3]) =>
  openFolder(source, wantsChat, undefined, tokenizer).then(({ chatTemplate }) => chatTemplate);
const withTemplate = { 'tokenizer_config.json': { ...config, chat_template: 'in the config' } };
const jinja = { 'chat_template.jinja': 'a file\n' };
const json = { 'chat_template.json': { chat_template: 'a JSON file' } };

describe('the chat template of a folder', () => {
  test.each<[string, Record<string, unknown>, string | null]>([
    ['tokenizer_config.json', withTemplate, 'in the config'],
    ['chat_template.jinja', jinja, 'a file\n'],
    ['chat_template.json', json, 'a JSON file'],
    ['chat_template.jinja before the others, as in transformers', { ...withTemplate, ...jinja, ...json }, 'a file\n'],
    ['tokenizer_config.json before chat_template.json', { ...withTemplate, ...json }, 'in the config'],
    ['nothing', {}, null],
    [
      'a config that says there is none',
      { ...json, 'tokenizer_config.json': { ...config, chat_template: null } },
      null,
    ],
    ['no config at all', { ...json, 'tokenizer_config.json': 'null' }, 'a JSON file'],
  ])('%s', async (_, changes, expected) => {
    expect((await open(folder(changes).source)).source).toBe(expected);
  });

  test('comes with the special tokens, also where the caller brings the tokenizer', async () => {
    const tokenizer = { encode: () => [1], decode: () => '' };
    for (const template of [await open(folder(jinja).source), await open(folder(jinja).source, true, tokenizer)]) {
      expect(template).toEqual({
        url: 'https://models.test/stories/',
        source: 'a file\n',
        specialTokens: { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>', pad_token: '<|pad|>' },
      });
    }
  });

  test('is not looked for in a draft', async () => {
    const { source, asked } = folder({ ...jinja, ...json });
    expect((await open(source, false)).source).toBeNull();
    expect(asked.filter((file) => file.startsWith('chat_template'))).toEqual([]);
  });

  test('no file is asked for in vain where another has it', async () => {
    for (const changes of [withTemplate, jinja]) {
      const { source, asked } = folder(changes);
      await open(source);
      expect(asked).not.toContain('chat_template.json');
    }
  });

  test('of a wrong kind, or no JSON, is an error that names the model', async () => {
    await expect(open(folder({ 'tokenizer_config.json': { ...config, chat_template: 5 } }).source)).rejects.toThrow(
      ModelFormatError,
    );
    await expect(open(folder({ 'chat_template.json': '{' }).source)).rejects.toThrow(/chat_template\.json is not JSON/);
  });
});
