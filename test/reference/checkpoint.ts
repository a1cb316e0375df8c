/**
 * Reads and writes well-formed checkpoints for tests, without the library's own reader, which is under test itself.
 * Plain bytes in and out, so that it runs in Node and in the browser.
 */
import type { ModelConfig } from '../../src/model/config.ts';
import type { TensorDtype } from '../../src/model/gguf_blocks.ts';
import { plainRope } from './rope_kv.ts';

/** A tensor in the file's own layout: row-major, little-endian; `data` at any byte offset of its buffer. */
export type Tensor = { dtype: TensorDtype; shape: readonly number[]; data: Uint8Array };

/** The part of a model's config that the forward pass needs. */
export type ReferenceConfig = Omit<ModelConfig, 'architecture' | 'modelType' | 'bosTokenId' | 'eosTokenIds'>;

/** config.json of a Hugging Face Llama checkpoint that states every field. */
export type LlamaConfigJson = {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  vocab_size: number;
  max_position_embeddings: number;
  rms_norm_eps: number;
  rope_theta: number;
  tie_word_embeddings: boolean;
  attention_bias: boolean;
  mlp_bias: boolean;
};

export function readLlamaConfig(json: LlamaConfigJson): ReferenceConfig {
  return {
    hiddenSize: json.hidden_size,
    ffnSize: json.intermediate_size,
    layerCount: json.num_hidden_layers,
    headCount: json.num_attention_heads,
    kvHeadCount: json.num_key_value_heads,
    headDim: json.head_dim,
    vocabSize: json.vocab_size,
    maxContextLength: json.max_position_embeddings,
    rmsNormEps: json.rms_norm_eps,
    ropes: { full: plainRope(json.head_dim, json.rope_theta), sliding: plainRope(json.head_dim, json.rope_theta) },
    windows: new Array<null>(json.num_hidden_layers).fill(null),
    qkNorm: 'none',
    norms: 'before',
    normOffset: 0,
    activation: 'silu',
    fusedProjections: false,
    embeddingScale: 1,
    attentionScale: json.head_dim ** -0.5,
    tiedEmbeddings: json.tie_word_embeddings,
    attentionBias: json.attention_bias,
    // Llama's one switch governs all four attention projections.
    attentionOutputBias: json.attention_bias,
    mlpBias: json.mlp_bias,
  };
}

type HeaderEntry = { dtype: Tensor['dtype']; shape: number[]; data_offsets: [number, number] };

/** Header length (u64), JSON header, tensor bytes. */
export function readSafetensors(file: Uint8Array): Map<string, Tensor> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const dataStart = 8 + Number(view.getBigUint64(0, true));
  const header: Record<string, HeaderEntry> = JSON.parse(new TextDecoder().decode(file.subarray(8, dataStart)));
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    tensors.set(name, { dtype, shape, data: file.subarray(dataStart + offsets[0], dataStart + offsets[1]) });
  }
  return tensors;
}

export function writeSafetensors(tensors: ReadonlyMap<string, Tensor>): Uint8Array<ArrayBuffer> {
  const header: Record<string, HeaderEntry | Record<string, string>> = { __metadata__: { format: 'pt' } };
  let dataSize = 0;
  for (const [name, { dtype, shape, data }] of tensors) {
    header[name] = { dtype, shape: [...shape], data_offsets: [dataSize, dataSize + data.byteLength] };
    dataSize += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  // The format pads its header with spaces so that the data begins at a multiple of 8.
  const headerSize = Math.ceil(json.byteLength / 8) * 8;
  const file = new Uint8Array(8 + headerSize + dataSize).fill(0x20, 8, 8 + headerSize);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerSize), true);
  file.set(json, 8);
  let offset = 8 + headerSize;
  for (const { data } of tensors.values()) {
    file.set(data, offset);
    offset += data.byteLength;
  }
  return file;
}
