/** The demo's model pair as float64 twins, from the files in demo/public/models. For Node: reads files. */
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';
import { readLlamaConfig, readSafetensors } from './checkpoint.ts';
import { createReferenceModel, type ReferenceModel, type ReferenceOptions } from './forward.ts';

export type EmbeddedModelName = 'stories-3m' | 'stories-650k';

export function loadEmbeddedModel(name: EmbeddedModelName, options?: ReferenceOptions): ReferenceModel {
  const config = readLlamaConfig(readJson(name, 'config.json'));
  return createReferenceModel(config, readSafetensors(readFileSync(fileOf(name, 'model.safetensors'))), options);
}

/** Token ids of a prompt, with the leading `<|endoftext|>` that the tokenizer's own post-processor adds. */
export function loadEmbeddedTokenizer(): { encode(text: string): number[]; decode(tokens: number[]): string } {
  const tokenizer = new Tokenizer(
    readJson('stories-3m', 'tokenizer.json'),
    readJson('stories-3m', 'tokenizer_config.json'),
  );
  return {
    encode: (text) => tokenizer.encode(text).ids,
    decode: (tokens) => tokenizer.decode(tokens, { skip_special_tokens: true }),
  };
}

function fileOf(name: EmbeddedModelName, file: string): URL {
  return new URL(`../../demo/public/models/${name}/${file}`, import.meta.url);
}

function readJson(name: EmbeddedModelName, file: string) {
  return JSON.parse(readFileSync(fileOf(name, file), 'utf8'));
}
