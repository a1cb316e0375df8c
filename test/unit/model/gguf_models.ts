/** The reference checkpoint of each family, and the embedded pair, as GGUF files. */
import { readFileSync } from 'node:fs';
import { type ModelConfig, parseConfig } from '../../../src/model/config.ts';
import { fileSource } from '../../../src/model/file_source.ts';
import type { ModelSource } from '../../../src/model/source.ts';
import { readSafetensors, type Tensor } from '../../reference/checkpoint.ts';
import { convertToGguf, type GgufFields, ggufTokenizerFields, type MatrixType } from '../../reference/gguf.ts';
import { jsonOf, readFolder } from './folders.ts';

export const families = ['llama', 'mistral', 'qwen2', 'qwen3', 'gemma3', 'phi3', 'olmo2'] as const;
export type Family = (typeof families)[number];
export type Checkpoint = { config: ModelConfig; tensors: ReadonlyMap<string, Tensor> };

export function readCheckpoint(family: Family): Checkpoint {
  const folder = new URL(`../../reference/data/${family}/`, import.meta.url);
  const config = parseConfig(JSON.parse(readFileSync(new URL('config.json', folder), 'utf8')), family);
  return { config, tensors: readSafetensors(new Uint8Array(readFileSync(new URL('model.safetensors', folder)))) };
}

/** A tokenizer for checkpoints without one: 256 bytes, where they have as many tokens. */
export function plainTokenizerFields(vocabSize: number): GgufFields {
  const vocab = Object.fromEntries(Array.from({ length: vocabSize }, (_, id) => [`t${id}`, id]));
  const added = [
    { id: 1, content: '<s>', special: true },
    { id: 2, content: '</s>', special: true },
  ];
  const ends: GgufFields = { 'tokenizer.ggml.bos_token_id': ['u32', 1], 'tokenizer.ggml.eos_token_id': ['u32', 2] };
  return { ...ggufTokenizerFields({ model: { vocab, merges: [] }, added_tokens: added }, 'gpt-2', vocabSize), ...ends };
}

export const sourceOf = (file: Uint8Array<ArrayBuffer>, name = 'model.gguf'): ModelSource =>
  fileSource(new File([file], name));

/** An embedded model with its tokenizer. */
export function embeddedGguf(
  name: 'stories-3m' | 'stories-650k',
  matrices: MatrixType = 'as stored',
  fields: GgufFields = {},
) {
  const files = readFolder(name);
  const config = parseConfig(jsonOf(files, 'config.json'), name);
  const all: GgufFields = {
    ...ggufTokenizerFields(jsonOf(files, 'tokenizer.json'), 'gpt-2', config.vocabSize),
    'tokenizer.ggml.bos_token_id': ['u32', 0],
    'tokenizer.ggml.eos_token_id': ['u32', 0],
    'tokenizer.ggml.add_bos_token': ['bool', true],
    ...fields,
  };
  return convertToGguf(config, readSafetensors(files.get('model.safetensors')!), all, { matrices });
}
