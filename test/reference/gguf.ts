/**
 * Writes GGUF files for tests, as llama.cpp's converter does: its names, its order of rotated rows, its norms. Plain
 * bytes in and out, so that it runs in Node and in the browser.
 */

import type { ModelConfig } from '../../src/model/config.ts';
import type { RopeConfig } from '../../src/model/rope.ts';
import type { Tensor } from './checkpoint.ts';
import { dequantize } from './dequantize.ts';
import { encodeFloat16 } from './float_formats.ts';

export type GgufField =
  | ['u32' | 'i32' | 'f32' | 'u64', number]
  | ['bool', boolean]
  | ['string', string]
  | ['u32s' | 'i32s' | 'f32s', readonly number[]]
  | ['bools', readonly boolean[]]
  | ['strings', readonly string[]]
  /** Any bytes, with the number of their type. */
  | ['raw', number, Uint8Array];
export type GgufFields = Readonly<Record<string, GgufField>>;

export type StoredGgufTensor = {
  name: string;
  /** Number of the type in the file: 0 F32, 1 F16, 8 Q8_0, 30 BF16. */
  type: number;
  /** As in the file: the length of a row first. */
  sizes: readonly number[];
  data: Uint8Array;
};

export type GgufOptions = { version?: number; alignment?: number; magic?: string };

const typeNumbers = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, u64: 10 } as const;
const bytesPerNumber = { u32: 4, i32: 4, f32: 4, u64: 8 } as const;

function numberBytes(type: keyof typeof bytesPerNumber, value: number): Uint8Array {
  const bytes = new Uint8Array(bytesPerNumber[type]);
  const view = new DataView(bytes.buffer);
  if (type === 'u32') view.setUint32(0, value, true);
  else if (type === 'i32') view.setInt32(0, value, true);
  else if (type === 'f32') view.setFloat32(0, value, true);
  else view.setBigUint64(0, BigInt(value), true);
  return bytes;
}

export const u32Bytes = (value: number) => numberBytes('u32', value);
export const u64Bytes = (value: number) => numberBytes('u64', value);
export function textBytes(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  return joinBytes([u64Bytes(bytes.length), bytes]);
}

export function joinBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** Number of the type, then the value. */
function fieldBytes(field: GgufField): Uint8Array {
  const array = (type: 'u32' | 'i32' | 'f32' | 'bool' | 'string', elements: readonly Uint8Array[]) =>
    joinBytes([u32Bytes(9), u32Bytes(typeNumbers[type]), u64Bytes(elements.length), ...elements]);
  switch (field[0]) {
    case 'raw':
      return joinBytes([u32Bytes(field[1]), field[2]]);
    case 'bool':
      return joinBytes([u32Bytes(7), Uint8Array.of(field[1] ? 1 : 0)]);
    case 'string':
      return joinBytes([u32Bytes(8), textBytes(field[1])]);
    case 'strings':
      return array('string', field[1].map(textBytes));
    case 'bools':
      return array(
        'bool',
        field[1].map((value) => Uint8Array.of(value ? 1 : 0)),
      );
    case 'u32s':
    case 'i32s':
    case 'f32s': {
      const type = field[0].slice(0, -1) as 'u32' | 'i32' | 'f32';
      return array(
        type,
        field[1].map((value) => numberBytes(type, value)),
      );
    }
    default:
      return joinBytes([u32Bytes(typeNumbers[field[0]]), numberBytes(field[0], field[1])]);
  }
}

export function writeGguf(
  fields: GgufFields,
  tensors: readonly StoredGgufTensor[],
  { version = 3, alignment = 32, magic = 'GGUF' }: GgufOptions = {},
): Uint8Array<ArrayBuffer> {
  const padded = (size: number) => Math.ceil(size / alignment) * alignment;
  const all: GgufFields = alignment === 32 ? fields : { ...fields, 'general.alignment': ['u32', alignment] };
  const head = [
    new TextEncoder().encode(magic),
    u32Bytes(version),
    u64Bytes(tensors.length),
    u64Bytes(Object.keys(all).length),
    ...Object.entries(all).flatMap(([key, field]) => [textBytes(key), fieldBytes(field)]),
  ];
  let offset = 0;
  for (const { name, type, sizes, data } of tensors) {
    head.push(textBytes(name), u32Bytes(sizes.length), ...sizes.map(u64Bytes), u32Bytes(type), u64Bytes(offset));
    offset += padded(data.length);
  }
  const headBytes = joinBytes(head);
  const file = new Uint8Array(padded(headBytes.length) + offset);
  file.set(headBytes);
  let position = padded(headBytes.length);
  for (const { data } of tensors) {
    file.set(data, position);
    position += padded(data.length);
  }
  return file;
}

/** 32 values: a float16 scale (the largest magnitude / 127) and signed bytes. */
function quantiseQ8(values: Float64Array): Uint8Array {
  const bytes = new Uint8Array((values.length / 32) * 34);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < values.length / 32; block++) {
    const part = values.subarray(block * 32, (block + 1) * 32);
    const scale = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
    view.setUint16(block * 34, encodeFloat16(scale), true);
    part.forEach((value, i) => {
      view.setInt8(block * 34 + 2 + i, scale === 0 ? 0 : Math.round(value / scale));
    });
  }
  return bytes;
}

/** In part: those of the feed-forward block and of the queries, as real files mix their types. */
export type MatrixType = 'as stored' | 'Q8_0' | 'Q8_0 in part';
const isPart = (name: string) => /\.(ffn_\w+|attn_q)\.weight$/.test(name);
const numberOfDtype = { F32: 0, F16: 1, BF16: 30 } as const;

/** Vectors become F32, as the converter has them; matrices stay as they are or become Q8_0 (embedding and head too). */
function storeTensor(name: string, { dtype, shape, data }: Tensor, matrices: MatrixType, added: number) {
  const values = () => dequantize({ dtype, shape, data }).map((value) => value + added);
  const sizes = [...shape].reverse();
  if (shape.length === 1) return { name, type: 0, sizes, data: new Uint8Array(Float32Array.from(values()).buffer) };
  if (matrices === 'Q8_0' || (matrices === 'Q8_0 in part' && isPart(name)))
    return { name, type: 8, sizes, data: quantiseQ8(values()) };
  return { name, type: numberOfDtype[dtype], sizes, data };
}

/** The converter's `permute`: (heads, 2, half, …) → (heads, half, 2, …), for rotation of neighbours. */
function interleaveRows(tensor: Tensor, headCount: number): Tensor {
  const rows = tensor.shape[0]!;
  const rowBytes = tensor.data.length / rows;
  const half = rows / headCount / 2;
  const parts: Uint8Array[] = [];
  for (let head = 0; head < headCount; head++) {
    for (let pair = 0; pair < half; pair++) {
      for (const side of [0, 1]) {
        const row = (head * 2 + side) * half + pair;
        parts.push(tensor.data.subarray(row * rowBytes, (row + 1) * rowBytes));
      }
    }
  }
  return { ...tensor, data: joinBytes(parts) };
}

const partNames: Readonly<Record<string, string>> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
  input_layernorm: 'attn_norm',
  pre_feedforward_layernorm: 'ffn_norm',
  post_feedforward_layernorm: 'post_ffw_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.qkv_proj': 'attn_qkv',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'mlp.gate_up_proj': 'ffn_up',
};

function convertTensors(
  config: ModelConfig,
  tensors: ReadonlyMap<string, Tensor>,
  matrices: MatrixType,
): StoredGgufTensor[] {
  const architecture = ggufArchitecture(config);
  return [...tensors].map(([name, tensor]) => {
    const kind = name.endsWith('.bias') ? 'bias' : 'weight';
    const module = name.slice(0, -kind.length - 1).replace(/^model\.layers\.\d+\./, '');
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    // OLMo 2 and Gemma 3 have this norm behind the attention, all others before the feed-forward block.
    const behind = architecture === 'gemma3' || architecture === 'olmo2' ? 'post_attention_norm' : 'ffn_norm';
    const part = module === 'post_attention_layernorm' ? behind : partNames[module];
    const rotated = { 'self_attn.q_proj': config.headCount, 'self_attn.k_proj': config.kvHeadCount }[module];
    const ordered = architecture === 'llama' && rotated !== undefined ? interleaveRows(tensor, rotated) : tensor;
    const added = architecture === 'gemma3' && module.endsWith('norm') ? 1 : 0;
    return storeTensor(`${layer === undefined ? '' : `blk.${layer}.`}${part}.${kind}`, ordered, matrices, added);
  });
}

const ggufArchitecture = ({ architecture }: ModelConfig) => (architecture === 'mistral' ? 'llama' : architecture);

export function ggufFieldsOf(config: ModelConfig): GgufFields {
  const architecture = ggufArchitecture(config);
  const { ropes, windows } = config;
  const fields: Record<string, GgufField> = {
    block_count: ['u32', config.layerCount],
    context_length: ['u32', config.maxContextLength],
    embedding_length: ['u32', config.hiddenSize],
    feed_forward_length: ['u32', config.ffnSize],
    'attention.head_count': ['u32', config.headCount],
    'attention.head_count_kv': ['u32', config.kvHeadCount],
    'attention.key_length': ['u32', config.headDim],
    'attention.value_length': ['u32', config.headDim],
    'attention.layer_norm_rms_epsilon': ['f32', config.rmsNormEps],
    'rope.freq_base': ['f32', ropes.full.theta],
    'rope.dimension_count': ['u32', ropes.full.rotaryDim],
    vocab_size: ['u32', config.vocabSize],
  };
  const window = windows.find((size) => size !== null);
  if (window !== undefined && (architecture === 'gemma3' || architecture === 'phi3')) {
    fields['attention.sliding_window'] = ['u32', window as number];
  }
  if (architecture === 'gemma3') {
    fields['attention.sliding_window_pattern'] = ['u32', windows.indexOf(null) + 1];
    fields['rope.freq_base_swa'] = ['f32', ropes.sliding.theta];
  }
  const { scaling } = ropes.full;
  if (scaling.type === 'linear') {
    fields['rope.scaling.type'] = ['string', 'linear'];
    fields['rope.scaling.factor'] = ['f32', scaling.factor];
  }
  if (scaling.type === 'longrope') {
    fields['rope.scaling.original_context_length'] = ['u32', config.maxContextLength];
    fields['rope.scaling.attn_factor'] = ['f32', scaling.attentionFactor];
  }
  const named = Object.entries(fields).map(([key, field]): [string, GgufField] => [`${architecture}.${key}`, field]);
  return {
    'general.architecture': ['string', architecture],
    'general.name': ['string', 'a test'],
    ...Object.fromEntries(named),
  };
}

/** The tensors of factors by which frequencies are divided. */
function ropeTensors({ ropes }: ModelConfig): StoredGgufTensor[] {
  const store = (name: string, factors: readonly number[]): StoredGgufTensor => ({
    name,
    type: 0,
    sizes: [factors.length],
    data: new Uint8Array(Float32Array.from(factors).buffer),
  });
  const { scaling } = ropes.full;
  if (scaling.type === 'llama3') return [store('rope_freqs.weight', llama3Factors(ropes.full))];
  if (scaling.type !== 'longrope') return [];
  return [
    store(
      'rope_factors_long.weight',
      scaling.factors.map((factor) => 4 * factor),
    ),
    store('rope_factors_short.weight', scaling.factors),
  ];
}

/** As the converter computes them. */
function llama3Factors({ theta, rotaryDim, scaling }: RopeConfig): number[] {
  if (scaling.type !== 'llama3') throw new RangeError(`Expected llama3 scaling, got ${scaling.type}.`);
  const { factor, lowFreqFactor, highFreqFactor, originalContextLength } = scaling;
  return Array.from({ length: rotaryDim / 2 }, (_, pair) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * pair) / rotaryDim);
    if (wavelength < originalContextLength / highFreqFactor) return 1;
    if (wavelength > originalContextLength / lowFreqFactor) return factor;
    const smooth = (originalContextLength / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

type TokenizerJson = {
  model: { vocab: Record<string, number>; merges: (string | [string, string])[] };
  added_tokens?: { id: number; content: string; special?: boolean }[];
};

/** Of a byte-level tokenizer.json. */
export function ggufTokenizerFields(json: unknown, pre: string, vocabSize: number): GgufFields {
  const { model, added_tokens: added = [] } = json as TokenizerJson;
  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const types = new Array<number>(vocabSize).fill(5);
  for (const [token, id] of Object.entries(model.vocab)) {
    tokens[id] = token;
    types[id] = 1;
  }
  for (const { id, content, special } of added) {
    tokens[id] = content;
    types[id] = special ? 3 : 4;
  }
  return {
    'tokenizer.ggml.model': ['string', 'gpt2'],
    'tokenizer.ggml.pre': ['string', pre],
    'tokenizer.ggml.tokens': ['strings', tokens],
    'tokenizer.ggml.token_type': ['i32s', types],
    'tokenizer.ggml.merges': [
      'strings',
      model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' '))),
    ],
  };
}

/** A whole model. `fields` adds to, or replaces, what the config gives; give the tokenizer's there. */
export function convertToGguf(
  config: ModelConfig,
  tensors: ReadonlyMap<string, Tensor>,
  fields: GgufFields,
  { matrices = 'as stored', ...options }: GgufOptions & { matrices?: MatrixType } = {},
): Uint8Array<ArrayBuffer> {
  return writeGguf(
    { ...ggufFieldsOf(config), ...fields },
    [...ropeTensors(config), ...convertTensors(config, tensors, matrices)],
    options,
  );
}
