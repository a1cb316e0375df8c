import type { WeightFormat } from '../kernels/packed.ts';
import type { ReadOptions } from './body.ts';
import type { ChatTemplate } from './chat_template.ts';
import type { ModelConfig } from './config.ts';
import type { TensorRows } from './tensor_rows.ts';
import type { Tokenizer } from './tokenizer.ts';

/** What a model's source says of it before the weights are read, and the way to read them. */
export type OpenedModel = {
  /** Of the folder or the GGUF file. */
  url: string;
  config: ModelConfig;
  tokenizer: Tokenizer;
  chatTemplate: ChatTemplate;
  /** The coarsest format that holds a tensor of the file about as it is. */
  storedFormat(tensor: string): WeightFormat;
  /** The files that hold the weights, from their heads, which are held against the config. */
  weightFiles(signal: AbortSignal | undefined): Promise<{ name: string; sizeBytes: number }[]>;
  /** Exactly the tensors that the model needs, of the shapes that its config implies, in the order of the files. */
  readTensors(options: Pick<ReadOptions, 'signal' | 'onBytes'>): AsyncGenerator<TensorRows, void, void>;
};
