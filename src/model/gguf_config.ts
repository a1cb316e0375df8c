/** The metadata of a GGUF file as a model's config: its keys are put as those of config.json, which are checked as ever. */
import { ModelFormatError, UnsupportedModelError } from '../errors.ts';
import { type ArchitectureName, architectures } from './architectures.ts';
import { type ModelConfig, parseConfig } from './config.ts';
import type { GgufHead, GgufTensor } from './gguf.ts';
import type { MetadataReader } from './gguf_metadata.ts';
import { endTokenIds } from './gguf_tokenizer.ts';
import type { RopeConfig } from './rope.ts';

/** `general.architecture`; Mistral's is llama too. */
const families = ['llama', 'qwen2', 'qwen3', 'gemma3', 'phi3', 'olmo2'] as const satisfies ArchitectureName[];

/** Layers of the one Gemma 3 (27B) that divides scores by √(hidden / heads) instead of √head_dim; no key tells it. */
const GEMMA3_27B_LAYERS = 62;

export function parseGgufConfig({ tensors }: Pick<GgufHead, 'tensors'>, metadata: MetadataReader): ModelConfig {
  const { name } = metadata;
  const given = metadata.text('general.architecture');
  const family = families.find((known) => known === given);
  if (family === undefined) {
    const known = families.map((known) => JSON.stringify(known)).join(', ');
    throw unsupported(name, 'general.architecture', given, known);
  }
  const key = (suffix: string) => `${family}.${suffix}`;
  const number = (suffix: string, fallback?: number) => metadata.number(key(suffix), fallback);
  const numberOr = <T>(suffix: string, fallback: T) => (metadata.has(key(suffix)) ? number(suffix) : fallback);

  for (const suffix of ['expert_count', 'expert_used_count']) {
    if (number(suffix, 0) !== 0) throw unsupported(name, key(suffix), number(suffix), '0 (no mixture of experts)');
  }
  const hiddenSize = number('embedding_length');
  const headCount = number('attention.head_count');
  const headDim = number('attention.key_length', hiddenSize / headCount);
  if (number('attention.value_length', headDim) !== headDim) {
    throw unsupported(name, key('attention.value_length'), number('attention.value_length'), 'the same as of keys');
  }
  const embedding = tensors.get('token_embd.weight');
  if (embedding === undefined) {
    throw new ModelFormatError(`${name}: tensor token_embd.weight is missing. Download or convert the file again.`);
  }
  const rotaryDim = number('rope.dimension_count', headDim);
  const has = (tensor: string) => tensors.has(tensor);
  // LongRoPE has other factors beyond its original context, for the whole text at once.
  const contextLength = Math.min(
    number('context_length'),
    has('rope_factors_short.weight') ? number('rope.scaling.original_context_length') : Number.POSITIVE_INFINITY,
  );
  const json = {
    architectures: [architectures[family].className],
    hidden_size: hiddenSize,
    intermediate_size: number('feed_forward_length'),
    num_hidden_layers: number('block_count'),
    num_attention_heads: headCount,
    num_key_value_heads: number('attention.head_count_kv', headCount),
    head_dim: headDim,
    vocab_size: embedding.shape[0] ?? 0,
    max_position_embeddings: contextLength,
    rms_norm_eps: number('attention.layer_norm_rms_epsilon'),
    rope_theta: number('rope.freq_base', 10_000),
    rope_local_base_freq: number('rope.freq_base_swa', 10_000),
    rope_scaling: ropeScaling(metadata, key),
    // Half a dimension keeps the product from falling short of a whole number.
    partial_rotary_factor: rotaryDim === headDim ? null : (rotaryDim + 0.5) / headDim,
    query_pre_attn_scalar:
      family === 'gemma3' && number('block_count') === GEMMA3_27B_LAYERS ? hiddenSize / headCount : headDim,
    ...windows(metadata, key),
    attn_logit_softcapping: numberOr('attn_logit_softcapping', null),
    final_logit_softcapping: numberOr('final_logit_softcapping', null),
    tie_word_embeddings: !has('output.weight'),
    bos_token_id: metadata.has('tokenizer.ggml.bos_token_id') ? metadata.number('tokenizer.ggml.bos_token_id') : null,
    eos_token_id: endTokenIds(metadata),
  };
  return {
    ...parseConfig(json, `${name}, metadata`),
    // Converters add Gemma's 1, and write a bias where there is one, without announcing it.
    normOffset: 0,
    attentionBias: has('blk.0.attn_q.bias') || has('blk.0.attn_qkv.bias'),
    attentionOutputBias: has('blk.0.attn_output.bias'),
    mlpBias: has('blk.0.ffn_up.bias'),
  };
}

function ropeScaling(metadata: MetadataReader, key: (suffix: string) => string): Record<string, unknown> | null {
  const type = metadata.text(key('rope.scaling.type'), 'none');
  // The factors of "longrope", as those of Llama 3, are a tensor.
  if (type === 'none' || type === 'longrope') return null;
  return { rope_type: type, factor: metadata.number(key('rope.scaling.factor'), 1) };
}

function windows(metadata: MetadataReader, key: (suffix: string) => string): Record<string, unknown> {
  const [size, pattern] = [key('attention.sliding_window'), key('attention.sliding_window_pattern')];
  // 0 stands for none.
  const json = { sliding_window: metadata.has(size) ? metadata.number(size) || null : null };
  if (!metadata.has(pattern)) return json;
  const isEveryNth = typeof metadata.value(pattern) === 'number';
  if (isEveryNth) return { ...json, sliding_window_pattern: metadata.number(pattern) };
  const flags = Array.from(metadata.numbers(pattern) ?? []);
  return { ...json, layer_types: flags.map((slides) => (slides ? 'sliding_attention' : 'full_attention')) };
}

/** Frequencies may be divided by factors that are a tensor: in Llama 3, and in LongRoPE within its original context. */
const ropeFactorTensors = ['rope_freqs.weight', 'rope_factors_short.weight'] as const;

export type RopeFactors = { tensor: string; attentionFactor: number };

/** The tensor that scales this model's rotation; null for none. */
export function findRopeFactors(
  { tensors }: Pick<GgufHead, 'tensors'>,
  metadata: MetadataReader,
  { ropes }: ModelConfig,
): RopeFactors | null {
  const tensor = ropeFactorTensors.find((name) => tensors.has(name));
  if (tensor === undefined) return null;
  const { shape, dtype } = tensors.get(tensor) as GgufTensor;
  const pairs = ropes.full.rotaryDim / 2;
  if (shape.length !== 1 || shape[0] !== pairs || dtype !== 'F32') {
    throw new ModelFormatError(
      `${metadata.name}: tensor ${tensor} is ${dtype} [${shape.join(', ')}], expected F32 [${pairs}]. ` +
        'Download or convert the file again.',
    );
  }
  const key = `${metadata.text('general.architecture')}.rope.scaling.attn_factor`;
  return { tensor, attentionFactor: metadata.number(key, 1) };
}

/** The config with the factors in place, once they are read. */
export function applyRopeFactors(
  config: ModelConfig,
  factors: Float32Array,
  { tensor, attentionFactor }: RopeFactors,
  name: string,
): ModelConfig {
  if (!factors.every((factor) => factor > 0 && factor < Number.POSITIVE_INFINITY)) {
    throw new ModelFormatError(
      `${name}: expected tensor ${tensor} to hold numbers above 0, got others. Download or convert the file again.`,
    );
  }
  const scaled = (rope: RopeConfig): RopeConfig => ({
    ...rope,
    scaling: { type: 'longrope', factors: [...factors], attentionFactor },
  });
  return { ...config, ropes: { full: scaled(config.ropes.full), sliding: scaled(config.ropes.sliding) } };
}

function unsupported(name: string, key: string, got: unknown, supported: string): UnsupportedModelError {
  return new UnsupportedModelError(
    `${name}: metadata ${key} ${JSON.stringify(got).slice(0, 60)} is not supported, only ${supported}. ` +
      'Use another model.',
  );
}
