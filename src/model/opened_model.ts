import type { ChatTemplate } from './chat_template.ts';
import type { ModelConfig } from './config.ts';
import type { ReadOptions } from './source.ts';
import type { WeightTensor } from './stored_values.ts';
import type { Tokenizer } from './tokenizer.ts';

/** What a model's source says of it before the weights are read, and the way to read them. */
export type OpenedModel = {
  /** Of the folder or the GGUF file. */
  url: string;
  config: ModelConfig;
  tokenizer: Tokenizer;
  chatTemplate: ChatTemplate;
  /** Exactly the tensors that the model needs. The config may gain what stands in tensors. */
  readTensors(options: Pick<ReadOptions, 'signal' | 'onBytes'>): Promise<ModelWeights>;
};

export type ModelWeights = { config: ModelConfig; tensors: ReadonlyMap<string, WeightTensor> };
