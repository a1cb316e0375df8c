import { ModelFormatError, UnsupportedModelError } from '../errors.ts';
import type { ModelConfig } from './config.ts';
import type { TensorDtype } from './gguf_blocks.ts';

/** Names of the norms of a layer, by where they stand. */
export type NormNames = {
  attentionInput: string | null;
  attentionOutput: string | null;
  ffnInput: string | null;
  ffnOutput: string | null;
};

export function normNames({ norms }: Pick<ModelConfig, 'norms'>): NormNames {
  switch (norms) {
    case 'before':
      return {
        attentionInput: 'input_layernorm',
        attentionOutput: null,
        ffnInput: 'post_attention_layernorm',
        ffnOutput: null,
      };
    case 'after':
      return {
        attentionInput: null,
        attentionOutput: 'post_attention_layernorm',
        ffnInput: null,
        ffnOutput: 'post_feedforward_layernorm',
      };
    case 'both':
      return {
        attentionInput: 'input_layernorm',
        attentionOutput: 'post_attention_layernorm',
        ffnInput: 'pre_feedforward_layernorm',
        ffnOutput: 'post_feedforward_layernorm',
      };
  }
}

/** Name and shape of every tensor that the model needs; matrices are (outputs, inputs). */
export function tensorShapes(config: ModelConfig): ReadonlyMap<string, readonly number[]> {
  const { hiddenSize, ffnSize, vocabSize, headDim, qkNorm, fusedProjections } = config;
  const queryWidth = config.headCount * headDim;
  const kvWidth = config.kvHeadCount * headDim;
  const shapes = new Map<string, readonly number[]>();
  const linear = (name: string, outputs: number, inputs: number, bias: boolean) => {
    shapes.set(`${name}.weight`, [outputs, inputs]);
    if (bias) shapes.set(`${name}.bias`, [outputs]);
  };
  const norms = Object.values(normNames(config));
  shapes.set('model.embed_tokens.weight', [vocabSize, hiddenSize]);
  for (let layer = 0; layer < config.layerCount; layer++) {
    const prefix = `model.layers.${layer}`;
    const attention = `${prefix}.self_attn`;
    for (const name of norms) if (name !== null) shapes.set(`${prefix}.${name}.weight`, [hiddenSize]);
    if (fusedProjections) {
      linear(`${attention}.qkv_proj`, queryWidth + 2 * kvWidth, hiddenSize, config.attentionBias);
      linear(`${prefix}.mlp.gate_up_proj`, 2 * ffnSize, hiddenSize, config.mlpBias);
    } else {
      linear(`${attention}.q_proj`, queryWidth, hiddenSize, config.attentionBias);
      linear(`${attention}.k_proj`, kvWidth, hiddenSize, config.attentionBias);
      linear(`${attention}.v_proj`, kvWidth, hiddenSize, config.attentionBias);
      linear(`${prefix}.mlp.gate_proj`, ffnSize, hiddenSize, config.mlpBias);
      linear(`${prefix}.mlp.up_proj`, ffnSize, hiddenSize, config.mlpBias);
    }
    if (qkNorm !== 'none') {
      shapes.set(`${attention}.q_norm.weight`, [qkNorm === 'head' ? headDim : queryWidth]);
      shapes.set(`${attention}.k_norm.weight`, [qkNorm === 'head' ? headDim : kvWidth]);
    }
    linear(`${attention}.o_proj`, hiddenSize, queryWidth, config.attentionOutputBias);
    linear(`${prefix}.mlp.down_proj`, hiddenSize, ffnSize, config.mlpBias);
  }
  shapes.set('model.norm.weight', [hiddenSize]);
  if (!config.tiedEmbeddings) shapes.set('lm_head.weight', [vocabSize, hiddenSize]);
  return shapes;
}

/** A tied head counts once. */
export function parameterCountOf(config: ModelConfig): number {
  let count = 0;
  for (const shape of tensorShapes(config).values()) count += shape.reduce((product, size) => product * size, 1);
  return count;
}

/** Holds the names of a model's tensors against the config: none of them missing, none that would change the model. */
export function checkTensorNames(
  config: ModelConfig,
  names: Pick<ReadonlyMap<string, unknown>, 'has' | 'keys'>,
  file: string,
): void {
  const shapes = tensorShapes(config);
  for (const name of shapes.keys()) {
    if (names.has(name)) continue;
    const hint = name === 'lm_head.weight' ? ', or tie_word_embeddings should be true' : '';
    throw new ModelFormatError(
      `${file}: tensor ${name} is missing, which config.json implies. The files belong to different models, or the ` +
        `download is incomplete${hint}.`,
    );
  }
  for (const name of names.keys()) {
    // To ignore a bias, a norm or a layer would silently compute another model. Parts outside the model are no matter.
    if (!shapes.has(name) && /^(model|lm_head)\./.test(name) && !isHarmless(name)) {
      throw new ModelFormatError(
        `${file}: tensor ${JSON.stringify(name.slice(0, 120))} has no place in the model that config.json describes. ` +
          'The files belong to different models, or config.json lacks the option that announces it.',
      );
    }
  }
}

/** What a file says of a tensor. */
type Described = { dtype: string; shape: readonly number[] };

/** Holds the weights against the config; returns exactly the tensors that the model needs. */
export function checkTensors<T extends Described>(
  config: ModelConfig,
  tensors: ReadonlyMap<string, T>,
  file: string,
): ReadonlyMap<string, T & { dtype: TensorDtype }> {
  checkTensorNames(config, tensors, file);
  return new Map(
    [...tensorShapes(config)].map(([name, shape]) => [name, checkTensor(name, shape, tensors.get(name) as T, file)]),
  );
}

export function checkTensor<T extends Described>(
  name: string,
  shape: readonly number[],
  tensor: T,
  file: string,
): T & { dtype: TensorDtype } {
  if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i])) {
    throw new ModelFormatError(
      `${file}: tensor ${name} has the shape [${tensor.shape.join(', ')}], expected [${shape.join(', ')}] by ` +
        'config.json. The files belong to different models.',
    );
  }
  if (!hasSupportedDtype(tensor)) {
    throw new UnsupportedModelError(
      `${file}: tensor ${name} has the data type ${tensor.dtype.slice(0, 20)}, expected F16, BF16 or F32. Convert the model.`,
    );
  }
  return tensor;
}

const hasSupportedDtype = <T extends Described>(tensor: T): tensor is T & { dtype: TensorDtype } =>
  ['F16', 'BF16', 'F32'].includes(tensor.dtype);

/** Rotary tables are recomputed; a head beside tied embeddings is a copy of them. */
const isHarmless = (name: string) => /\.rotary_emb\.\w+$/.test(name) || name === 'lm_head.weight';
