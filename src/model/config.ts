import { ModelFormatError, UnsupportedModelError } from '../errors.ts';
import { type Architecture, type ArchitectureName, architectures } from './architectures.ts';
import { parseRopes, type RopeConfig } from './rope.ts';

/** What the forward pass needs to know about a model, checked and with all defaults filled in. */
export type ModelConfig = Pick<
  Architecture,
  'qkNorm' | 'norms' | 'normOffset' | 'activation' | 'fusedProjections' | 'modelType'
> & {
  architecture: ArchitectureName;
  hiddenSize: number;
  ffnSize: number;
  layerCount: number;
  headCount: number;
  kvHeadCount: number;
  headDim: number;
  /** Rows of the embedding; may be padded beyond the tokenizer's tokens. */
  vocabSize: number;
  /** In tokens. */
  maxContextLength: number;
  rmsNormEps: number;
  /** Multiplies the embedding. */
  embeddingScale: number;
  /** Multiplies q · k. */
  attentionScale: number;
  /** Rotation of layers that see everything, and of those with a window. */
  ropes: { full: RopeConfig; sliding: RopeConfig };
  /** [layer] = positions that it sees, the row's own included; null: all before it. */
  windows: (number | null)[];
  /** The head reuses the embedding matrix. */
  tiedEmbeddings: boolean;
  /** Biases on q, k, v. */
  attentionBias: boolean;
  /** Bias on the attention's output projection. */
  attentionOutputBias: boolean;
  /** Biases on gate, up, down. */
  mlpBias: boolean;
  bosTokenId: number | null;
  /** Generation ends at any of these; may be empty. */
  eosTokenIds: number[];
};

/** Upper bounds that no known model comes near: beyond them a number is a mistake, or an attack on the allocator. */
const MAX_HIDDEN_SIZE = 2 ** 16;
const MAX_FFN_SIZE = 2 ** 19;
const MAX_LAYER_COUNT = 1024;
const MAX_HEAD_COUNT = 1024;
const MAX_HEAD_DIM = 1024;
const MAX_VOCAB_SIZE = 2 ** 22;
const MAX_CONTEXT_LENGTH = 2 ** 25;
const MAX_WINDOW = 2 ** 31;

type Json = Record<string, unknown>;

/** Reads `config.json`. Whatever would change the model's results and is not implemented is refused, by name. */
export function parseConfig(json: unknown, file: string): ModelConfig {
  if (!isRecord(json)) throw formatError(file, 'expected a JSON object', json);
  const name = checkArchitecture(json, file);
  const architecture = architectures[name];
  refuseUnsupported(json, architecture, file);

  const integer = (key: string, max: number, fallback?: number) => readInteger(json, key, max, fallback, file);
  const hiddenSize = integer('hidden_size', MAX_HIDDEN_SIZE);
  const ffnSize = integer('intermediate_size', MAX_FFN_SIZE);
  const layerCount = integer('num_hidden_layers', MAX_LAYER_COUNT);
  const headCount = integer('num_attention_heads', MAX_HEAD_COUNT);
  const { defaults, queryScalar } = architecture;
  // Where a family has a default, null means as many as heads, and leaving it out means the default.
  const usualKvHeadCount = json.num_key_value_heads === undefined ? defaults.kvHeadCount : null;
  const kvHeadCount = integer('num_key_value_heads', MAX_HEAD_COUNT, usualKvHeadCount ?? headCount);
  const usualHeadDim = defaults.headDim;
  if (isNullish(json.head_dim) && usualHeadDim === null && hiddenSize % headCount !== 0) {
    throw formatError(
      file,
      `without head_dim, hidden_size (${hiddenSize}) must be a multiple of num_attention_heads`,
      headCount,
    );
  }
  const headDim = integer('head_dim', MAX_HEAD_DIM, usualHeadDim ?? hiddenSize / headCount);
  if (headCount % kvHeadCount !== 0) {
    throw formatError(
      file,
      `num_attention_heads (${headCount}) must be a multiple of num_key_value_heads`,
      kvHeadCount,
    );
  }
  for (const [key, value] of Object.entries({
    hidden_size: hiddenSize,
    intermediate_size: ffnSize,
    head_dim: headDim,
  })) {
    // Weights are loaded as vectors of four.
    if (value % 4 !== 0) throw unsupported(file, key, value, 'multiples of 4');
  }
  const vocabSize = integer('vocab_size', MAX_VOCAB_SIZE);
  const { full, sliding, maxContextLength } = parseRopes({
    json,
    headDim,
    maxContextLength: integer('max_position_embeddings', MAX_CONTEXT_LENGTH),
    defaultTheta: defaults.ropeTheta,
    defaultLocalTheta: architecture.localRopeTheta,
    formatError: (expected, got) => formatError(file, expected, got),
    unsupported: (option, got, supported) => unsupported(file, option, got, supported),
  });
  const biased = readBoolean(json, 'attention_bias', false, file);
  const { qkNorm, norms, normOffset, activation, fusedProjections, modelType } = architecture;
  return {
    architecture: name,
    qkNorm,
    norms,
    normOffset,
    activation,
    fusedProjections,
    modelType,
    hiddenSize,
    ffnSize,
    layerCount,
    headCount,
    kvHeadCount,
    headDim,
    vocabSize,
    maxContextLength,
    rmsNormEps: readPositive(json, 'rms_norm_eps', defaults.rmsNormEps, file),
    embeddingScale: architecture.scalesEmbedding ? Math.sqrt(hiddenSize) : 1,
    attentionScale:
      (queryScalar === null ? headDim : readPositive(json, 'query_pre_attn_scalar', queryScalar, file)) ** -0.5,
    ropes: { full, sliding },
    windows: readWindows(json, architecture, layerCount, file),
    tiedEmbeddings: readBoolean(json, 'tie_word_embeddings', defaults.tiedEmbeddings, file),
    attentionBias: architecture.qkvBias === 'attention_bias' ? biased : architecture.qkvBias,
    attentionOutputBias: architecture.outputBias === 'attention_bias' ? biased : architecture.outputBias,
    mlpBias: architecture.mayHaveMlpBias && readBoolean(json, 'mlp_bias', false, file),
    bosTokenId: readTokenIds(json, 'bos_token_id', vocabSize, file)[0] ?? null,
    eosTokenIds: readTokenIds(json, 'eos_token_id', vocabSize, file),
  };
}

/** `generation_config.json` is the newer file: the end-of-sequence ids it names replace those of `config.json`. */
export function applyGenerationConfig(config: ModelConfig, json: unknown, file: string): ModelConfig {
  if (!isRecord(json)) throw formatError(file, 'expected a JSON object', json);
  if (isNullish(json.eos_token_id)) return config;
  return { ...config, eosTokenIds: readTokenIds(json, 'eos_token_id', config.vocabSize, file) };
}

function checkArchitecture(json: Json, file: string): ArchitectureName {
  const { architectures: classNames, model_type: modelType } = json;
  if (!isNullish(classNames) && !(Array.isArray(classNames) && classNames.every((a) => typeof a === 'string'))) {
    throw formatError(file, 'architectures must be a list of strings', classNames);
  }
  if (!isNullish(modelType) && typeof modelType !== 'string') {
    throw formatError(file, 'model_type must be a string', modelType);
  }
  const names = (classNames ?? []) as string[];
  if (names.length === 0 && isNullish(modelType)) {
    throw formatError(file, 'expected architectures or model_type, to tell what kind of model this is', undefined);
  }
  const known = Object.entries(architectures) as [ArchitectureName, Architecture][];
  const listed = (values: string[]) => values.map((value) => JSON.stringify(value)).join(', ');
  const byClass = known.find(([, { className }]) => names.includes(className));
  if (names.length > 0 && byClass === undefined) {
    throw unsupported(file, 'architectures', classNames, listed(known.map(([, { className }]) => className)));
  }
  const byType = known.find(([, architecture]) => architecture.modelType === modelType);
  if (!isNullish(modelType) && (byType === undefined || (byClass !== undefined && byClass !== byType))) {
    const expected = byClass === undefined ? known : [byClass];
    throw unsupported(
      file,
      'model_type',
      modelType,
      listed(expected.map(([, architecture]) => architecture.modelType)),
    );
  }
  return ((byClass ?? byType) as [ArchitectureName, Architecture])[0];
}

/** Names that Hugging Face gives to the activations we have. */
const activationNames = {
  silu: ['silu', 'swish'],
  gelu_tanh: ['gelu_pytorch_tanh', 'gelu_new', 'gelu_fast'],
} as const;

function refuseUnsupported(json: Json, { activation, mayTurnPart }: Architecture, file: string): void {
  const names: readonly string[] = activationNames[activation];
  const { hidden_act: named = names[0], hidden_activation: newlyNamed } = json;
  // Gemma's files carry both, and the newer one holds.
  const [key, got] = isNullish(newlyNamed) ? ['hidden_act', named] : ['hidden_activation', newlyNamed];
  if (!names.includes(got as string)) throw unsupported(file, key as string, got, `"${names[0]}"`);
  if (!isNullish(json.quantization_config)) {
    throw unsupported(file, 'quantization_config', json.quantization_config, 'unquantised weights (F16, BF16, F32)');
  }
  refuseOtherThan(json, 'rope_interleaved', false, file);
  for (const holder of [json, json.rope_scaling, json.rope_parameters]) {
    if (isRecord(holder) && !mayTurnPart) refuseOtherThan(holder, 'partial_rotary_factor', 1, file);
  }
  for (const key of ['final_logit_softcapping', 'attn_logit_softcapping']) refuseOtherThan(json, key, null, file);
  refuseOtherThan(json, 'use_bidirectional_attention', false, file);
}

/** Which layers see a window only: by `layer_types` where the file has it, else as the family does. */
function readWindows(json: Json, architecture: Architecture, layerCount: number, file: string): (number | null)[] {
  const { layer_types: layerTypes } = json;
  const size = readWindowSize(json, architecture, file);
  if (isNullish(layerTypes)) return usualWindows(json, architecture, layerCount, size, file);
  if (!Array.isArray(layerTypes) || layerTypes.length !== layerCount) {
    throw formatError(file, `layer_types must be a list of ${layerCount} layers`, layerTypes);
  }
  const mayMix = architecture.window === 'use_sliding_window' || architecture.window === 'pattern';
  const supported = mayMix || size === null ? ['full_attention'] : [];
  if (mayMix || size !== null) supported.push('sliding_attention');
  return layerTypes.map((type) => {
    if (!supported.includes(type)) {
      throw unsupported(file, 'layer_types', layerTypes, supported.map((name) => `"${name}"`).join(' and '));
    }
    if (type === 'full_attention') return null;
    if (size === null) throw formatError(file, 'sliding_window must be in use where layer_types names it', null);
    return size;
  });
}

function readWindowSize(json: Json, { window, defaults }: Architecture, file: string): number | null {
  if (window === 'use_sliding_window' && !readBoolean(json, 'use_sliding_window', false, file)) return null;
  // Null switches windows off, leaving it out does not.
  if (json.sliding_window === null) return null;
  if (json.sliding_window === undefined && defaults.slidingWindow === null) return null;
  const size = readInteger(json, 'sliding_window', MAX_WINDOW, defaults.slidingWindow ?? undefined, file);
  if (window === 'none') throw unsupported(file, 'sliding_window', size, 'null (full attention)');
  return size;
}

function usualWindows(
  json: Json,
  { window }: Architecture,
  layerCount: number,
  size: number | null,
  file: string,
): (number | null)[] {
  const layers = Array.from({ length: layerCount }, (_, layer) => layer);
  if (window === 'use_sliding_window' && size !== null) {
    const first = json.max_window_layers === 0 ? 0 : readInteger(json, 'max_window_layers', MAX_LAYER_COUNT, 28, file);
    return layers.map((layer) => (layer >= first ? size : null));
  }
  if (window === 'pattern') {
    const pattern = readInteger(json, 'sliding_window_pattern', MAX_LAYER_COUNT, 6, file);
    return layers.map((layer) => ((layer + 1) % pattern === 0 ? null : size));
  }
  return layers.map(() => size);
}

function refuseOtherThan(json: Json, key: string, only: unknown, file: string): void {
  if (!isNullish(json[key]) && json[key] !== only) throw unsupported(file, key, json[key], String(only));
}

function readInteger(json: Json, key: string, max: number, fallback: number | undefined, file: string): number {
  const value = json[key] ?? fallback;
  if (!Number.isSafeInteger(value) || (value as number) < 1 || (value as number) > max) {
    throw formatError(file, `${key} must be a whole number from 1 to ${max}`, value);
  }
  return value as number;
}

function readPositive(json: Json, key: string, fallback: number, file: string): number {
  const value = json[key] ?? fallback;
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw formatError(file, `${key} must be a number above 0`, value);
  }
  return value;
}

function readBoolean(json: Json, key: string, fallback: boolean, file: string): boolean {
  const value = json[key] ?? fallback;
  if (typeof value !== 'boolean') throw formatError(file, `${key} must be true or false`, value);
  return value;
}

function readTokenIds(json: Json, key: string, vocabSize: number, file: string): number[] {
  const value = json[key];
  if (isNullish(value)) return [];
  const ids = Array.isArray(value) ? value : [value];
  for (const id of ids) {
    if (!Number.isSafeInteger(id) || id < 0 || id >= vocabSize) {
      throw formatError(file, `${key} must be a token id from 0 to ${vocabSize - 1} (vocab_size ${vocabSize})`, id);
    }
  }
  return [...new Set(ids as number[])];
}

const isNullish = (value: unknown): value is null | undefined => value === null || value === undefined;
const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function preview(value: unknown): string {
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'nothing');
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function formatError(file: string, expected: string, got: unknown): ModelFormatError {
  return new ModelFormatError(`${file}: ${expected}, got ${preview(got)}. Use the file that came with the model.`);
}

function unsupported(file: string, option: string, got: unknown, supported: string): UnsupportedModelError {
  return new UnsupportedModelError(
    `${file}: ${option} ${preview(got)} is not supported, only ${supported}. Use a model without it, or of another family.`,
  );
}
