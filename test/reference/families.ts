/** The tiny checkpoints of every model family that tools/make_checkpoints.py made, and what Hugging Face computes with them. */
import type { ArchitectureName } from '../../src/model/architectures.ts';
import { type ModelConfig, parseConfig } from '../../src/model/config.ts';
import { readSafetensors, type Tensor } from './checkpoint.ts';

export type Expected = {
  tokens: number[]; // (200,)
  /** By row of `tokens`: the logits after it, (V,). */
  logits: Record<string, number[]>;
  greedy: GreedyRun[];
};

/** A greedy continuation of the first tokens, and by how much each chosen logit led. */
export type GreedyRun = { promptLength: number; tokens: number[]; margins: number[] };

export type Family = {
  configJson: Record<string, unknown> & { vocab_size: number; num_hidden_layers: number };
  config: ModelConfig;
  safetensors: Uint8Array<ArrayBuffer>;
  tensors: Map<string, Tensor>;
  expected: Expected;
};

// Inlined, because tests in Node and in a browser have no way in common to read a file.
const configs = import.meta.glob<Family['configJson']>('./data/*/config.json', { import: 'default' });
const expectations = import.meta.glob<Expected>('./data/*/expected.json', { import: 'default' });
const weights = import.meta.glob<string>('./data/*/model.safetensors', { query: '?url&inline', import: 'default' });

export const familyNames = Object.keys(configs).map((path) => path.split('/')[2]) as ArchitectureName[];

export async function loadFamily(name: ArchitectureName): Promise<Family> {
  const [configJson, expected, dataUrl] = await Promise.all([
    configs[`./data/${name}/config.json`]!(),
    expectations[`./data/${name}/expected.json`]!(),
    weights[`./data/${name}/model.safetensors`]!(),
  ]);
  const binary = atob(dataUrl.slice(dataUrl.indexOf(',') + 1));
  const safetensors = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const config = parseConfig(configJson, `${name}/config.json`);
  return { configJson, config, safetensors, tensors: readSafetensors(safetensors), expected };
}
