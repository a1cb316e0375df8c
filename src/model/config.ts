import { ModelFormatError, UnsupportedModelError } from '../errors.ts';
import type { StoredTensor, Tensor } from './safetensors.ts';

/** What the forward pass needs to know about a model, checked and with all defaults filled in. */
export type ModelConfig = {
  architecture: 'llama';
  modelType: string;
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
  ropeTheta: number;
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

type Json = Record<string, unknown>;

/** Reads `config.json`. Whatever would change the model's results and is not implemented is refused, by name. */
export function parseConfig(json: unknown, file: string): ModelConfig {
  if (!isRecord(json)) throw formatError(file, 'expected a JSON object', json);
  const modelType = checkArchitecture(json, file);
  refuseUnsupported(json, file);

  const integer = (key: string, max: number, fallback?: number) => readInteger(json, key, max, fallback, file);
  const hiddenSize = integer('hidden_size', MAX_HIDDEN_SIZE);
  const ffnSize = integer('intermediate_size', MAX_FFN_SIZE);
  const layerCount = integer('num_hidden_layers', MAX_LAYER_COUNT);
  const headCount = integer('num_attention_heads', MAX_HEAD_COUNT);
  const kvHeadCount = integer('num_key_value_heads', MAX_HEAD_COUNT, headCount);
  if (isNullish(json.head_dim) && hiddenSize % headCount !== 0) {
    throw formatError(
      file,
      `without head_dim, hidden_size (${hiddenSize}) must be a multiple of num_attention_heads`,
      headCount,
    );
  }
  const headDim = integer('head_dim', MAX_HEAD_DIM, hiddenSize / headCount);
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
  const biased = readBoolean(json, 'attention_bias', false, file);
  return {
    architecture: 'llama',
    modelType,
    hiddenSize,
    ffnSize,
    layerCount,
    headCount,
    kvHeadCount,
    headDim,
    vocabSize,
    maxContextLength: integer('max_position_embeddings', MAX_CONTEXT_LENGTH),
    rmsNormEps: readPositive(json, 'rms_norm_eps', 1e-6, file),
    ropeTheta: readRopeTheta(json, file),
    tiedEmbeddings: readBoolean(json, 'tie_word_embeddings', false, file),
    attentionBias: biased,
    attentionOutputBias: biased,
    mlpBias: readBoolean(json, 'mlp_bias', false, file),
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

function checkArchitecture(json: Json, file: string): string {
  const { architectures, model_type: modelType } = json;
  if (
    !isNullish(architectures) &&
    !(Array.isArray(architectures) && architectures.every((a) => typeof a === 'string'))
  ) {
    throw formatError(file, 'architectures must be a list of strings', architectures);
  }
  if (!isNullish(modelType) && typeof modelType !== 'string') {
    throw formatError(file, 'model_type must be a string', modelType);
  }
  const names = (architectures ?? []) as string[];
  if (names.length === 0 && isNullish(modelType)) {
    throw formatError(file, 'expected architectures or model_type, to tell what kind of model this is', undefined);
  }
  if (names.length > 0 && !names.includes('LlamaForCausalLM')) {
    throw unsupported(file, 'architectures', architectures, '["LlamaForCausalLM"]');
  }
  if (!isNullish(modelType) && modelType !== 'llama') throw unsupported(file, 'model_type', modelType, '"llama"');
  return 'llama';
}

function refuseUnsupported(json: Json, file: string): void {
  const { hidden_act: activation = 'silu', layer_types: layerTypes } = json;
  if (activation !== 'silu' && activation !== 'swish') throw unsupported(file, 'hidden_act', activation, '"silu"');
  if (!isNullish(json.quantization_config)) {
    throw unsupported(file, 'quantization_config', json.quantization_config, 'unquantised weights (F16, BF16, F32)');
  }
  // `rope_scaling` is the older name of `rope_parameters`, and both call the same thing `type` or `rope_type`.
  for (const key of ['rope_scaling', 'rope_parameters']) {
    const rope = json[key];
    if (isNullish(rope)) continue;
    if (!isRecord(rope)) throw formatError(file, `${key} must be an object or null`, rope);
    const plain = (rope.rope_type ?? rope.type ?? 'default') === 'default' && !Object.values(rope).some(isRecord);
    const scale = rope.factor ?? 1;
    if (!plain || scale !== 1) throw unsupported(file, key, rope, 'null or rope_type "default"');
    refuseOtherThan(rope, 'partial_rotary_factor', 1, file);
  }
  refuseOtherThan(json, 'partial_rotary_factor', 1, file);
  refuseOtherThan(json, 'rope_interleaved', false, file);
  if (!isNullish(json.sliding_window) && json.use_sliding_window !== false) {
    throw unsupported(file, 'sliding_window', json.sliding_window, 'null (full attention)');
  }
  const isFull = Array.isArray(layerTypes) && layerTypes.every((type) => type === 'full_attention');
  if (!isNullish(layerTypes) && !isFull) throw unsupported(file, 'layer_types', layerTypes, '"full_attention" only');
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

function readRopeTheta(json: Json, file: string): number {
  for (const holder of [json.rope_parameters, json.rope_scaling]) {
    if (isRecord(holder) && !isNullish(holder.rope_theta)) return readPositive(holder, 'rope_theta', 10000, file);
  }
  return readPositive(json, 'rope_theta', 10000, file);
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

/** Name and shape of every tensor that the model needs; matrices are (outputs, inputs). */
export function tensorShapes(config: ModelConfig): ReadonlyMap<string, readonly number[]> {
  const { hiddenSize, ffnSize, vocabSize } = config;
  const queryWidth = config.headCount * config.headDim;
  const kvWidth = config.kvHeadCount * config.headDim;
  const shapes = new Map<string, readonly number[]>();
  const linear = (name: string, outputs: number, inputs: number, bias: boolean) => {
    shapes.set(`${name}.weight`, [outputs, inputs]);
    if (bias) shapes.set(`${name}.bias`, [outputs]);
  };
  shapes.set('model.embed_tokens.weight', [vocabSize, hiddenSize]);
  for (let layer = 0; layer < config.layerCount; layer++) {
    const prefix = `model.layers.${layer}`;
    shapes.set(`${prefix}.input_layernorm.weight`, [hiddenSize]);
    linear(`${prefix}.self_attn.q_proj`, queryWidth, hiddenSize, config.attentionBias);
    linear(`${prefix}.self_attn.k_proj`, kvWidth, hiddenSize, config.attentionBias);
    linear(`${prefix}.self_attn.v_proj`, kvWidth, hiddenSize, config.attentionBias);
    linear(`${prefix}.self_attn.o_proj`, hiddenSize, queryWidth, config.attentionOutputBias);
    shapes.set(`${prefix}.post_attention_layernorm.weight`, [hiddenSize]);
    linear(`${prefix}.mlp.gate_proj`, ffnSize, hiddenSize, config.mlpBias);
    linear(`${prefix}.mlp.up_proj`, ffnSize, hiddenSize, config.mlpBias);
    linear(`${prefix}.mlp.down_proj`, hiddenSize, ffnSize, config.mlpBias);
  }
  shapes.set('model.norm.weight', [hiddenSize]);
  if (!config.tiedEmbeddings) shapes.set('lm_head.weight', [vocabSize, hiddenSize]);
  return shapes;
}

/** Holds `model.safetensors` against the config; returns exactly the tensors that the model needs. */
export function checkTensors(
  config: ModelConfig,
  tensors: ReadonlyMap<string, StoredTensor>,
  file: string,
): ReadonlyMap<string, Tensor> {
  const shapes = tensorShapes(config);
  const checked = new Map<string, Tensor>();
  for (const [name, shape] of shapes) {
    const tensor = tensors.get(name);
    if (!tensor) {
      const hint = name === 'lm_head.weight' ? ', or tie_word_embeddings should be true' : '';
      throw new ModelFormatError(
        `${file}: tensor ${name} is missing, which config.json implies. The files belong to different models, or the ` +
          `download is incomplete${hint}.`,
      );
    }
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i])) {
      throw new ModelFormatError(
        `${file}: tensor ${name} has the shape [${tensor.shape.join(', ')}], expected [${shape.join(', ')}] by ` +
          'config.json. The files belong to different models.',
      );
    }
    if (!isSupportedDtype(tensor.dtype)) {
      throw new UnsupportedModelError(
        `${file}: tensor ${name} has the data type ${tensor.dtype.slice(0, 20)}, expected F16, BF16 or F32. Convert the model.`,
      );
    }
    checked.set(name, { dtype: tensor.dtype, shape: tensor.shape, data: tensor.data });
  }
  for (const name of tensors.keys()) {
    // To ignore a bias, a norm or a layer would silently compute another model. Parts outside the model are no matter.
    if (!checked.has(name) && /^(model|lm_head)\./.test(name) && !isHarmless(name)) {
      throw new ModelFormatError(
        `${file}: tensor ${JSON.stringify(name.slice(0, 120))} has no place in the model that config.json describes. ` +
          'The files belong to different models, or config.json lacks the option that announces it.',
      );
    }
  }
  return checked;
}

const isSupportedDtype = (dtype: string): dtype is Tensor['dtype'] => ['F16', 'BF16', 'F32'].includes(dtype);

/** Rotary tables are recomputed; a head beside tied embeddings is a copy of them. */
const isHarmless = (name: string) => /\.rotary_emb\.\w+$/.test(name) || name === 'lm_head.weight';

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
    `${file}: ${option} ${preview(got)} is not supported, only ${supported}. Use a model of the Llama architecture without it.`,
  );
}
