/** What the engine specs share: engines over any two model sources, models from memory, the embedded pair and its twins. */
import { createEngineOn } from '../../src/engine_core.ts';
import { ModelFetchError } from '../../src/errors.ts';
import type { Gpu } from '../../src/gpu/device.ts';
import type { KernelKind } from '../../src/kernels/kernel_kind.ts';
import { streamOf } from '../../src/model/body.ts';
import { type ModelSource, readFile, urlSource } from '../../src/model/source.ts';
import { createTokenizer } from '../../src/model/tokenizer.ts';
import { parseEngineOptions } from '../../src/options.ts';
import type { CostReport, Engine, EngineOptions } from '../../src/types.ts';
import { type LlamaConfigJson, readLlamaConfig, readSafetensors, writeSafetensors } from '../reference/checkpoint.ts';
import type { EmbeddedModelName } from '../reference/embedded_pair.ts';
import { createReferenceModel, type ReferenceModel } from '../reference/forward.ts';
import { prompts } from '../reference/prompts.ts';
import type { RandomModel } from '../reference/random_model.ts';
import { device } from './kernel_bench.ts';

// Node has no page to be relative to; its setup file answers for localhost.
const page = globalThis.location?.href ?? 'http://localhost/';
export const embeddedSource = (name: EmbeddedModelName): ModelSource => urlSource(`/models/${name}/`, page);

/** As if measured: timing takes as long as most of what an engine is opened for. */
export const knownCosts: CostReport = {
  committedLength: 48,
  targetStepMs: 5,
  draftStepMs: 1,
  c: 0.2,
  v: [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
  vSpread: new Array(8).fill(0),
  sampleCount: 1,
  longContext: null,
};

/**
 * An engine over sources instead of URLs. On the shared device it shares what is compiled, and ends with the file; one
 * that fails to load closes its device. `costs`: null for measured ones. `kernelKind`: as on GPUs; null for the faster here.
 */
export function openEngine(
  target: ModelSource,
  draft: ModelSource | null,
  {
    costs = knownCosts,
    kernelKind = 'workgroup',
    ...options
  }: Partial<EngineOptions> & { costs?: CostReport | null; kernelKind?: KernelKind | null } = {},
  gpu: Gpu = device(),
): Promise<Engine> {
  const parsed = parseEngineOptions({ draft: draft?.url ?? null, ...options, target: target.url || 'a file' });
  return createEngineOn(gpu, target, draft, { ...parsed, costs, kernelKind });
}

export type ModelFolder = ReadonlyMap<string, Uint8Array>;

export function memorySource(name: string, files: ModelFolder): ModelSource {
  const url = `https://memory.test/${name}/`;
  return {
    url,
    async open(file, { optional }) {
      const bytes = files.get(file);
      if (bytes === undefined && !optional) throw new ModelFetchError(`${url}${file} is not in this test's folder.`);
      return bytes ? streamOf(bytes) : null;
    },
  };
}

export const jsonBytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

type ConfigJson = { vocab_size: number; num_hidden_layers: number; layer_types?: unknown };
type Checkpoint = { configJson: ConfigJson; safetensors: Uint8Array };

/** Of a random model: what the embedded models' shaders are compiled for, which saves seconds. */
export const embeddedShape = {
  head_dim: 64,
  attention_bias: false,
  mlp_bias: false,
  max_position_embeddings: 1024,
} as const;

/** The files of a random model. Without a `tokenizer` its tokens are called t0, t1, …, and prompts are token ids. */
export function randomFolder({ configJson, safetensors }: Checkpoint, tokenizer?: ModelFolder): ModelFolder {
  const vocab = Object.fromEntries(Array.from({ length: configJson.vocab_size }, (_, id) => [`t${id}`, id]));
  return new Map([
    ['tokenizer.json', jsonBytes({ model: { type: 'BPE', vocab, merges: [] } })],
    ...(tokenizer ?? []),
    ['config.json', jsonBytes(configJson)],
    ['model.safetensors', safetensors],
  ]);
}

/** A draft for a random model: its own weights without the last layer. It agrees now and then, where unrelated weights agree by accident only. */
export function withoutLastLayer({ configJson, tensors }: Pick<RandomModel, 'tensors'> & Checkpoint): Checkpoint {
  const layers = configJson.num_hidden_layers - 1;
  const kept = [...tensors].filter(([name]) => !name.startsWith(`model.layers.${layers}.`));
  const { layer_types: types } = configJson;
  const changes = { num_hidden_layers: layers, ...(Array.isArray(types) && { layer_types: types.slice(0, layers) }) };
  return { configJson: { ...configJson, ...changes }, safetensors: writeSafetensors(new Map(kept)) };
}

/** The named files of an embedded model. */
export async function embeddedFiles(name: EmbeddedModelName, files: readonly string[]): Promise<ModelFolder> {
  const source = embeddedSource(name);
  const read = async (file: string) => [file, (await readFile(source, file, {})) as Uint8Array] as const;
  return new Map(await Promise.all(files.map(read)));
}

const parseJson = (bytes: Uint8Array | undefined) => JSON.parse(new TextDecoder().decode(bytes));

export async function embeddedTwin(name: EmbeddedModelName): Promise<ReferenceModel> {
  const files = await embeddedFiles(name, ['config.json', 'model.safetensors']);
  const config = readLlamaConfig(parseJson(files.get('config.json')) as LlamaConfigJson);
  return createReferenceModel(config, readSafetensors(files.get('model.safetensors') as Uint8Array), {
    cacheAsFloat16: true,
  });
}

/** Token ids of the fixed prompts. */
export async function embeddedPrompts(): Promise<number[][]> {
  const files = await embeddedFiles('stories-3m', ['tokenizer.json', 'tokenizer_config.json']);
  const config = parseJson(files.get('tokenizer_config.json'));
  const tokenizer = createTokenizer(parseJson(files.get('tokenizer.json')), config, 'tokenizer.json');
  return prompts.map((prompt) => tokenizer.encode(prompt));
}

/** Requests without a seed draw these words instead of random ones. */
export async function withSeedWords<T>(given: readonly [number, number], work: () => Promise<T>): Promise<T> {
  const { getRandomValues } = crypto;
  crypto.getRandomValues = ((words: Uint32Array) => {
    words.set(given);
    return words;
  }) as typeof crypto.getRandomValues;
  try {
    return await work();
  } finally {
    crypto.getRandomValues = getRandomValues;
  }
}
