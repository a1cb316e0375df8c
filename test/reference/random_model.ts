/** Tiny Llama checkpoints of random weights and any shape, as bytes that load like a real one. */
import {
  type LlamaConfigJson,
  type ReferenceConfig,
  readLlamaConfig,
  type Tensor,
  writeSafetensors,
} from './checkpoint.ts';
import { encodeBfloat16, encodeFloat16 } from './float_formats.ts';
import { createRandom } from './random.ts';

export type RandomModelOptions = Partial<LlamaConfigJson> & { dtype?: Tensor['dtype'] };

export type RandomModel = {
  /** config.json */
  configJson: LlamaConfigJson & { architectures: string[]; model_type: string; hidden_act: string };
  /** model.safetensors */
  safetensors: Uint8Array<ArrayBuffer>;
  config: ReferenceConfig;
  tensors: Map<string, Tensor>;
};

// Nothing round, nothing equal: a swapped or assumed size shows.
const defaults: LlamaConfigJson = {
  hidden_size: 44,
  intermediate_size: 36,
  num_hidden_layers: 2,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  head_dim: 20,
  vocab_size: 259,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: false,
  attention_bias: true,
  mlp_bias: true,
};

export function randomModel({ dtype = 'F16', ...overrides }: RandomModelOptions, seed: number): RandomModel {
  const json = { ...defaults, ...overrides };
  const config = readLlamaConfig(json);
  const random = createRandom(seed);
  const tensors = new Map<string, Tensor>();

  const store = (name: string, shape: number[], nextValue: () => number): void => {
    const count = shape.reduce((product, size) => product * size, 1);
    tensors.set(name, { dtype, shape, data: encode(dtype, count, nextValue) });
  };
  // Gain 1.5 per matrix keeps attention peaked and rows unlike each other, where the usual 0.02 would blur them.
  const linear = (name: string, outputSize: number, inputSize: number, withBias: boolean): void => {
    store(`${name}.weight`, [outputSize, inputSize], () => (1.5 * random.normal()) / Math.sqrt(inputSize));
    if (withBias) store(`${name}.bias`, [outputSize], () => 0.5 * random.normal());
  };
  const norm = (name: string): void => store(`${name}.weight`, [config.hiddenSize], () => 1 + 0.2 * random.normal());

  const querySize = config.headCount * config.headDim;
  const kvSize = config.kvHeadCount * config.headDim;
  store('model.embed_tokens.weight', [config.vocabSize, config.hiddenSize], random.normal);
  for (let index = 0; index < config.layerCount; index++) {
    const prefix = `model.layers.${index}`;
    norm(`${prefix}.input_layernorm`);
    linear(`${prefix}.self_attn.q_proj`, querySize, config.hiddenSize, config.attentionBias);
    linear(`${prefix}.self_attn.k_proj`, kvSize, config.hiddenSize, config.attentionBias);
    linear(`${prefix}.self_attn.v_proj`, kvSize, config.hiddenSize, config.attentionBias);
    linear(`${prefix}.self_attn.o_proj`, config.hiddenSize, querySize, config.attentionOutputBias);
    norm(`${prefix}.post_attention_layernorm`);
    linear(`${prefix}.mlp.gate_proj`, config.ffnSize, config.hiddenSize, config.mlpBias);
    linear(`${prefix}.mlp.up_proj`, config.ffnSize, config.hiddenSize, config.mlpBias);
    linear(`${prefix}.mlp.down_proj`, config.hiddenSize, config.ffnSize, config.mlpBias);
  }
  norm('model.norm');
  if (!config.tiedEmbeddings) linear('lm_head', config.vocabSize, config.hiddenSize, false);

  return {
    configJson: { architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_act: 'silu', ...json },
    safetensors: writeSafetensors(tensors),
    config,
    tensors,
  };
}

function encode(dtype: Tensor['dtype'], count: number, nextValue: () => number): Uint8Array {
  const bytesPerValue = dtype === 'F32' ? 4 : 2;
  const data = new Uint8Array(count * bytesPerValue);
  const view = new DataView(data.buffer);
  for (let i = 0; i < count; i++) {
    const value = nextValue();
    if (dtype === 'F32') view.setFloat32(4 * i, value, true);
    else view.setUint16(2 * i, dtype === 'F16' ? encodeFloat16(value) : encodeBfloat16(value), true);
  }
  return data;
}
