/**
 * The supported families as a table of what differs. All of them are decoders with RMS norms, rotary positions, grouped
 * queries and a gated feed-forward block, and run through the one forward pass.
 */
export type ArchitectureName = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'gemma3' | 'phi3' | 'olmo2';

export type Architecture = {
  /** `architectures` and `model_type` of config.json. */
  className: string;
  modelType: string;
  /** Biases on q, k, v and on the output projection: always, never, or as `attention_bias` says. */
  qkvBias: boolean | 'attention_bias';
  outputBias: boolean | 'attention_bias';
  /** Biases of the feed-forward block may be announced by `mlp_bias`. */
  mayHaveMlpBias: boolean;
  /** RMS norm of queries and keys before the rotation: of each head, or of all heads together. */
  qkNorm: 'none' | 'head' | 'full';
  /** Where attention and feed-forward blocks are normalised: their input, their output, or both. */
  norms: 'before' | 'after' | 'both';
  /** Added to every norm weight as stored: Gemma keeps w − 1. */
  normOffset: 0 | 1;
  /** The embedding is multiplied by √hidden_size. */
  scalesEmbedding: boolean;
  activation: 'silu' | 'gelu_tanh';
  /** q, k, v stand in one tensor `qkv_proj`, gate and up in `gate_up_proj`. */
  fusedProjections: boolean;
  /** `partial_rotary_factor` may leave some dimensions of a head unturned. */
  mayTurnPart: boolean;
  /** How layers with a sliding window are told. */
  window: 'none' | 'all' | 'use_sliding_window' | 'pattern';
  /** Rotation of layers with a window: their own base (`rope_local_base_freq`), by default this; null: that of all layers. */
  localRopeTheta: number | null;
  /** Scores are divided by √`query_pre_attn_scalar`, by default this; null: by √head_dim. */
  queryScalar: number | null;
  /** What holds where config.json does not name it. */
  defaults: Defaults;
};

type Defaults = {
  tiedEmbeddings: boolean;
  /** Null: hidden_size / num_attention_heads. */
  headDim: number | null;
  /** Null: as many as heads. */
  kvHeadCount: number | null;
  ropeTheta: number;
  rmsNormEps: number;
  slidingWindow: number | null;
};

const llamaDefaults: Defaults = {
  tiedEmbeddings: false,
  headDim: null,
  kvHeadCount: null,
  ropeTheta: 10_000,
  rmsNormEps: 1e-6,
  slidingWindow: null,
};

const llama: Architecture = {
  className: 'LlamaForCausalLM',
  modelType: 'llama',
  qkvBias: 'attention_bias',
  outputBias: 'attention_bias',
  mayHaveMlpBias: true,
  qkNorm: 'none',
  norms: 'before',
  normOffset: 0,
  scalesEmbedding: false,
  activation: 'silu',
  fusedProjections: false,
  mayTurnPart: false,
  window: 'none',
  localRopeTheta: null,
  queryScalar: null,
  defaults: llamaDefaults,
};

export const architectures: Readonly<Record<ArchitectureName, Architecture>> = {
  llama,
  mistral: {
    ...llama,
    className: 'MistralForCausalLM',
    modelType: 'mistral',
    qkvBias: false,
    outputBias: false,
    mayHaveMlpBias: false,
    window: 'all',
    defaults: { ...llamaDefaults, kvHeadCount: 8, slidingWindow: 4096 },
  },
  qwen2: {
    ...llama,
    className: 'Qwen2ForCausalLM',
    modelType: 'qwen2',
    qkvBias: true,
    outputBias: false,
    mayHaveMlpBias: false,
    window: 'use_sliding_window',
    defaults: { ...llamaDefaults, kvHeadCount: 32, slidingWindow: 4096 },
  },
  qwen3: {
    ...llama,
    className: 'Qwen3ForCausalLM',
    modelType: 'qwen3',
    mayHaveMlpBias: false,
    qkNorm: 'head',
    window: 'use_sliding_window',
    defaults: { ...llamaDefaults, headDim: 128, kvHeadCount: 32, slidingWindow: 4096 },
  },
  gemma3: {
    ...llama,
    className: 'Gemma3ForCausalLM',
    modelType: 'gemma3_text',
    mayHaveMlpBias: false,
    qkNorm: 'head',
    norms: 'both',
    normOffset: 1,
    scalesEmbedding: true,
    activation: 'gelu_tanh',
    window: 'pattern',
    localRopeTheta: 10_000,
    queryScalar: 256,
    defaults: {
      tiedEmbeddings: true,
      headDim: 256,
      kvHeadCount: 4,
      ropeTheta: 1_000_000,
      rmsNormEps: 1e-6,
      slidingWindow: 4096,
    },
  },
  phi3: {
    ...llama,
    className: 'Phi3ForCausalLM',
    modelType: 'phi3',
    qkvBias: false,
    outputBias: false,
    mayHaveMlpBias: false,
    fusedProjections: true,
    mayTurnPart: true,
    window: 'all',
    defaults: { ...llamaDefaults, rmsNormEps: 1e-5 },
  },
  olmo2: {
    ...llama,
    className: 'Olmo2ForCausalLM',
    modelType: 'olmo2',
    mayHaveMlpBias: false,
    qkNorm: 'full',
    norms: 'after',
    defaults: { ...llamaDefaults, rmsNormEps: 1e-5 },
  },
};
