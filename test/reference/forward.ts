/** Float64 twin of src/model/forward.ts: a decoder over T rows with an incremental key/value cache. */
import { attention } from './attention.ts';
import type { ReferenceConfig, Tensor } from './checkpoint.ts';
import { dequantize } from './dequantize.ts';
import { embed } from './embed.ts';
import { roundToCache, roundToFloat16 } from './float_formats.ts';
import { glu } from './glu.ts';
import { matmul } from './matmul.ts';
import { rmsNorm } from './rms_norm.ts';
import { type QkNorm, ropeKv } from './rope_kv.ts';

export type ReferenceModel = {
  readonly config: ReferenceConfig;
  /** The tokens whose keys and values are cached, by position. */
  readonly tokens: readonly number[];
  /**
   * Logits of each row, (T, V). Rows are positions startPosition..; what was cached at or past it is forgotten first
   * (rewind is a length), and startPosition may not leave a gap.
   */
  forward(tokens: readonly number[], startPosition: number): Float64Array[];
};

export type ReferenceOptions = {
  /**
   * Round matrices (not norms and biases) to F16, as an engine does that packs them in F16. No effect on an F16
   * checkpoint. Default false: exactly the stored values.
   */
  matricesAsFloat16?: boolean;
  /** Round keys and values as the engine's cache does. Default false. */
  cacheAsFloat16?: boolean;
  /** Sees every intermediate tensor by name (`layers.0.qkv`, …), for finding where a GPU pass parts from its twin. */
  onTensor?: (name: string, values: Float64Array) => void;
};

type Layer = {
  attentionInputNorm: Float64Array | null; // (D,)
  attentionOutputNorm: Float64Array | null;
  mlpInputNorm: Float64Array | null;
  mlpOutputNorm: Float64Array | null;
  qkNorm: QkNorm | null;
  qkv: Float64Array; // ((H + 2K) · headDim, D)
  qkvBias: Float64Array | null;
  attentionOutput: Float64Array; // (D, H · headDim)
  attentionOutputBias: Float64Array | null;
  gateUp: Float64Array; // (2F, D)
  gateUpBias: Float64Array | null;
  down: Float64Array; // (D, F)
  downBias: Float64Array | null;
  keys: Float64Array; // (capacity, K, headDim)
  values: Float64Array; // (capacity, K, headDim)
};

export function createReferenceModel(
  config: ReferenceConfig,
  tensors: ReadonlyMap<string, Tensor>,
  { matricesAsFloat16 = false, cacheAsFloat16 = false, onTensor = () => {} }: ReferenceOptions = {},
): ReferenceModel {
  const { hiddenSize, ffnSize, headCount, kvHeadCount, headDim, vocabSize, rmsNormEps } = config;
  const querySize = headCount * headDim;
  const kvSize = kvHeadCount * headDim;

  const load = (name: string, ...shape: number[]): Float64Array => {
    const tensor = tensors.get(name);
    if (tensor === undefined || tensor.shape.join() !== shape.join()) {
      throw new RangeError(`Expected tensor ${name} [${shape}], got ${tensor ? `[${tensor.shape}]` : 'none'}.`);
    }
    const values = dequantize(tensor);
    return matricesAsFloat16 && shape.length === 2 ? roundToFloat16(values) : values;
  };

  const embedding = load('model.embed_tokens.weight', vocabSize, hiddenSize);
  const head = config.tiedEmbeddings ? embedding : load('lm_head.weight', vocabSize, hiddenSize);
  // Gemma keeps w − 1.
  const norm = (name: string, size: number) => load(`${name}.weight`, size).map((w) => w + config.normOffset);
  const finalNorm = norm('model.norm', hiddenSize);
  const norms = (prefix: string) => {
    const at = (name: string) => norm(`${prefix}.${name}`, hiddenSize);
    const before = config.norms !== 'after';
    const after = config.norms !== 'before';
    const inputName = config.norms === 'before' ? 'post_attention_layernorm' : 'pre_feedforward_layernorm';
    return {
      attentionInputNorm: before ? at('input_layernorm') : null,
      attentionOutputNorm: after ? at('post_attention_layernorm') : null,
      mlpInputNorm: before ? at(inputName) : null,
      mlpOutputNorm: after ? at('post_feedforward_layernorm') : null,
    };
  };
  const qkNorm = (prefix: string): QkNorm | null => {
    if (config.qkNorm === 'none') return null;
    const isFull = config.qkNorm === 'full';
    return {
      kind: config.qkNorm,
      queryWeight: norm(`${prefix}.q_norm`, isFull ? querySize : headDim),
      keyWeight: norm(`${prefix}.k_norm`, isFull ? kvSize : headDim),
      eps: rmsNormEps,
    };
  };
  const normed = (input: Float64Array, weight: Float64Array | null) =>
    weight === null ? input : rmsNorm(input, weight, rmsNormEps);
  const layers = Array.from({ length: config.layerCount }, (_, index): Layer => {
    const prefix = `model.layers.${index}`;
    const matrix = (name: string, outputSize: number, inputSize: number) =>
      load(`${prefix}.${name}.weight`, outputSize, inputSize);
    const bias = (present: boolean, ...parts: [name: string, size: number][]) =>
      present ? concatenate(...parts.map(([name, size]) => load(`${prefix}.${name}.bias`, size))) : null;
    return {
      ...norms(prefix),
      qkNorm: qkNorm(`${prefix}.self_attn`),
      qkv: config.fusedProjections
        ? matrix('self_attn.qkv_proj', querySize + 2 * kvSize, hiddenSize)
        : concatenate(
            matrix('self_attn.q_proj', querySize, hiddenSize),
            matrix('self_attn.k_proj', kvSize, hiddenSize),
            matrix('self_attn.v_proj', kvSize, hiddenSize),
          ),
      qkvBias: bias(
        config.attentionBias,
        ['self_attn.q_proj', querySize],
        ['self_attn.k_proj', kvSize],
        ['self_attn.v_proj', kvSize],
      ),
      attentionOutput: matrix('self_attn.o_proj', hiddenSize, querySize),
      attentionOutputBias: bias(config.attentionOutputBias, ['self_attn.o_proj', hiddenSize]),
      gateUp: config.fusedProjections
        ? matrix('mlp.gate_up_proj', 2 * ffnSize, hiddenSize)
        : concatenate(matrix('mlp.gate_proj', ffnSize, hiddenSize), matrix('mlp.up_proj', ffnSize, hiddenSize)),
      gateUpBias: bias(config.mlpBias, ['mlp.gate_proj', ffnSize], ['mlp.up_proj', ffnSize]),
      down: matrix('mlp.down_proj', hiddenSize, ffnSize),
      downBias: bias(config.mlpBias, ['mlp.down_proj', hiddenSize]),
      keys: new Float64Array(0),
      values: new Float64Array(0),
    };
  });
  const cachedTokens: number[] = [];

  const forward = (tokens: readonly number[], startPosition: number): Float64Array[] => {
    if (!Number.isInteger(startPosition) || startPosition < 0 || startPosition > cachedTokens.length) {
      throw new RangeError(`Expected a start position in 0..${cachedTokens.length}, got ${startPosition}.`);
    }
    const rows = tokens.length;
    const positions = tokens.map((_, row) => startPosition + row);
    let hidden = embed(tokens, embedding, hiddenSize, config.embeddingScale); // (T, D)
    onTensor('embed', hidden);
    layers.forEach((layer, index) => {
      const trace = (name: string, values: Float64Array) => onTensor(`layers.${index}.${name}`, values);

      const window = config.windows[index]!;
      const rope = window === null ? config.ropes.full : config.ropes.sliding;
      const attentionInput = normed(hidden, layer.attentionInputNorm);
      trace('input_norm', attentionInput);
      const qkvShape = { rows, inputSize: hiddenSize, outputSize: querySize + 2 * kvSize };
      const qkv = matmul(attentionInput, layer.qkv, qkvShape, layer.qkvBias);
      trace('qkv', qkv);
      const { q, k, v } = ropeKv(qkv, positions, config, { rope, qkNorm: layer.qkNorm });
      trace('q', q);
      trace('k', k);
      trace('v', v);
      const cached = (values: Float64Array) => (cacheAsFloat16 ? roundToCache(values) : values);
      layer.keys = write(layer.keys, cached(k), startPosition * kvSize);
      layer.values = write(layer.values, cached(v), startPosition * kvSize);
      const mixed = attention(q, layer.keys, layer.values, positions, config, {
        scale: config.attentionScale,
        window,
      }); // (T, H · headDim)
      trace('attention', mixed);
      const outputShape = { rows, inputSize: querySize, outputSize: hiddenSize };
      const attended = matmul(mixed, layer.attentionOutput, outputShape, layer.attentionOutputBias);
      hidden = add(hidden, normed(attended, layer.attentionOutputNorm));
      trace('attention_residual', hidden);

      const mlpInput = normed(hidden, layer.mlpInputNorm);
      trace('mlp_norm', mlpInput);
      const gateUpShape = { rows, inputSize: hiddenSize, outputSize: 2 * ffnSize };
      const gateUp = matmul(mlpInput, layer.gateUp, gateUpShape, layer.gateUpBias);
      trace('gate_up', gateUp);
      const activated = glu(gateUp, ffnSize, config.activation); // (T, F)
      trace('silu_mul', activated);
      const downShape = { rows, inputSize: ffnSize, outputSize: hiddenSize };
      hidden = add(hidden, normed(matmul(activated, layer.down, downShape, layer.downBias), layer.mlpOutputNorm));
      trace('mlp_residual', hidden);
    });
    const output = rmsNorm(hidden, finalNorm, rmsNormEps);
    onTensor('final_norm', output);
    const logits = matmul(output, head, { rows, inputSize: hiddenSize, outputSize: vocabSize }); // (T, V)
    onTensor('logits', logits);
    // Last, so that a call that throws leaves the cache as it was described.
    cachedTokens.splice(startPosition, Infinity, ...tokens);
    return positions.map((_, row) => logits.subarray(row * vocabSize, (row + 1) * vocabSize));
  };

  return { config, tokens: cachedTokens, forward };
}

const add = (a: Float64Array, b: Float64Array) => a.map((value, i) => value + b[i]!);

function concatenate(...parts: Float64Array[]): Float64Array {
  const result = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}

/** Writes into a buffer that doubles when it is full: a checkpoint's own maximum context may be far beyond a test's. */
function write(buffer: Float64Array, part: Float64Array, offset: number): Float64Array {
  let target = buffer;
  if (offset + part.length > buffer.length) {
    target = new Float64Array(Math.max(2 * buffer.length, offset + part.length));
    target.set(buffer.subarray(0, offset));
  }
  target.set(part, offset);
  return target;
}
