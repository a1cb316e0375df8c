/** The tensors of a GGUF file under the names, and in the row order, of the Hugging Face layout. */
import { ModelFormatError } from '../errors.ts';
import type { ModelConfig } from './config.ts';
import type { GgufHead, GgufTensor } from './gguf.ts';
import type { PlacedTensor, TensorRows } from './tensor_rows.ts';
import { tensorShapes } from './tensors.ts';

/** Name in the file of `model.layers.N.<module>` as `blk.N.<…>`; the norms differ with where they stand. */
const layerModules: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.qkv_proj': 'attn_qkv',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  pre_feedforward_layernorm: 'ffn_norm',
  post_feedforward_layernorm: 'post_ffw_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.gate_up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
};
const otherModules: Readonly<Record<string, string>> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
};

export function ggufNameOf(name: string, { norms }: Pick<ModelConfig, 'norms'>): string {
  const [, module, kind] = /^(.*)\.(weight|bias)$/.exec(name) as unknown as [string, string, string];
  const inLayer = /^model\.layers\.(\d+)\.(.*)$/.exec(module);
  if (inLayer === null) return `${otherModules[module]}.${kind}`;
  const [, layer, part] = inLayer as unknown as [string, string, string];
  // The name of the feed-forward block's norm, of Llama and its like, is that of another norm in others.
  const postAttention = norms === 'before' ? 'ffn_norm' : 'post_attention_norm';
  const ggufPart = part === 'post_attention_layernorm' ? postAttention : layerModules[part];
  return `blk.${layer}.${ggufPart}.${kind}`;
}

/** Beside the model's own: factors of the rotation, which are read apart. */
const isHarmless = (name: string) => /^rope_(freqs|factors_(long|short))\.weight$/.test(name);

/** Holds the file's tensors against the config. @returns name in the Hugging Face layout → place in the file */
export function placeModelTensors(
  config: ModelConfig,
  { tensors }: Pick<GgufHead, 'tensors'>,
  name: string,
): ReadonlyMap<string, GgufTensor> {
  const fail = (fault: string): never => {
    throw new ModelFormatError(`${name}: ${fault}. Download or convert the file again.`);
  };
  const placed = new Map<string, GgufTensor>();
  const used = new Set<string>();
  for (const [modelName, shape] of tensorShapes(config)) {
    const ggufName = ggufNameOf(modelName, config);
    used.add(ggufName);
    const tensor = tensors.get(ggufName) ?? fail(`tensor ${ggufName} is missing, which the metadata implies`);
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i])) {
      fail(
        `tensor ${ggufName} has the shape [${tensor.shape.join(', ')}], expected [${shape.join(', ')}] by its metadata`,
      );
    }
    placed.set(modelName, tensor);
  }
  for (const ggufName of tensors.keys()) {
    // To ignore a bias, a norm or a layer would silently compute another model.
    if (!used.has(ggufName) && !isHarmless(ggufName)) {
      fail(`tensor ${JSON.stringify(ggufName.slice(0, 120))} has no place in the model that its metadata describes`);
    }
  }
  return placed;
}

/** True where the converter reordered the rows: rotation there turns neighbours, here the two halves of a head. */
const isInterleaved = (name: string) => /\.self_attn\.[qk]_proj\.(weight|bias)$/.test(name);

/** The places as they are to be read: what is to be reordered comes a head at a time, or several. */
export function ggufReadPlan(config: ModelConfig, placed: ReadonlyMap<string, GgufTensor>): PlacedTensor[] {
  return [...placed].map(([name, place]) => ({
    ...place,
    name,
    ...(isReordered(config, name) && { rowGroup: config.headDim }),
  }));
}

/** Rows in the order of the Hugging Face layout. @returns data of its own where it had to reorder them */
export function restoreRows(config: ModelConfig, rows: TensorRows): TensorRows {
  if (!isReordered(config, rows.name)) return rows;
  return { ...rows, data: separateHalves(rows.data, rows.rowCount, config.headDim) };
}

const isReordered = ({ architecture }: ModelConfig, name: string) => architecture === 'llama' && isInterleaved(name);

/**
 * Rows of each head from (x0, y0, x1, y1, …) back to (x0, x1, …, y0, y1, …), where (x, y) turn together. A row is a whole
 * number of blocks, so that nothing is decoded.
 */
function separateHalves(bytes: Uint8Array, rows: number, headDim: number): Uint8Array {
  const rowBytes = bytes.length / rows;
  const result = new Uint8Array(bytes.length);
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim;
    const from = row - inHead + (inHead < headDim / 2 ? 2 * inHead : 2 * (inHead - headDim / 2) + 1);
    result.set(bytes.subarray(from * rowBytes, (from + 1) * rowBytes), row * rowBytes);
  }
  return result;
}
