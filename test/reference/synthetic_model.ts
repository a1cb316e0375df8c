/** Llama checkpoints of any size that are never whole in memory: their bytes are made as they are asked for. */
import type { FileStream } from '../../src/model/body.ts';
import { type ModelConfig, parseConfig } from '../../src/model/config.ts';
import type { ModelSource } from '../../src/model/source.ts';
import { tensorShapes } from '../../src/model/tensors.ts';
import { decodeFloat16 } from './float_formats.ts';
import { createRandom } from './random.ts';

export type SyntheticSizes = { hiddenSize: number; ffnSize: number; layerCount: number; vocabSize: number };

export type SyntheticModel = {
  config: ModelConfig;
  /** Of model.safetensors. */
  sizeBytes: number;
  /** Element `index` of an F16 tensor. */
  valueAt(tensor: string, index: number): number;
  source: ModelSource;
  /** Bytes of model.safetensors that were asked for. */
  readBytes(): number;
};

/** No multiple of any row or chunk. */
const patternBytes = 1_000_006;

export function syntheticModel({ hiddenSize, ffnSize, layerCount, vocabSize }: SyntheticSizes): SyntheticModel {
  const configJson = {
    ...{ architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_act: 'silu', tie_word_embeddings: true },
    ...{ hidden_size: hiddenSize, intermediate_size: ffnSize, num_hidden_layers: layerCount, vocab_size: vocabSize },
    ...{ num_attention_heads: hiddenSize / 64, num_key_value_heads: hiddenSize / 128, head_dim: 64 },
    ...{ max_position_embeddings: 128, rms_norm_eps: 1e-5, rope_theta: 10_000 },
  };
  const config = parseConfig(configJson, 'synthetic');
  const header: Record<string, unknown> = {};
  const beginOf = new Map<string, number>();
  let dataBytes = 0;
  // Not in the order in which the engine names them, as in real files.
  for (const [name, shape] of [...tensorShapes(config)].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const sizeBytes = shape.reduce((product, size) => product * size, 2);
    header[name] = { dtype: 'F16', shape, data_offsets: [dataBytes, dataBytes + sizeBytes] };
    beginOf.set(name, dataBytes);
    dataBytes += sizeBytes;
  }
  const headerBytes = new TextEncoder().encode(JSON.stringify(header));
  const head = new Uint8Array(8 + headerBytes.length + (headerBytes.length % 2));
  new DataView(head.buffer).setBigUint64(0, BigInt(head.length - 8), true);
  head.fill(0x20, 8);
  head.set(headerBytes, 8);

  // Finite halves of magnitude 0.06 to 0.12, of both signs.
  const random = createRandom(17);
  const halves = Uint16Array.from({ length: patternBytes / 2 }, () => (random.integer(2 ** 16) & 0x83ff) | 0x2c00);
  const pattern = new Uint8Array(halves.buffer);

  let read = 0;
  async function* chunks(): FileStream['chunks'] {
    const sizes = createRandom(18);
    yield head.slice();
    for (let at = 0; at < dataBytes; ) {
      const from = at % patternBytes;
      const count = Math.min(1 + sizes.integer(65_536), patternBytes - from, dataBytes - at);
      read += count;
      yield pattern.slice(from, from + count);
      at += count;
    }
  }
  const vocab = Object.fromEntries(Array.from({ length: vocabSize }, (_, id) => [`t${id}`, id]));
  const json: Record<string, unknown> = {
    'config.json': configJson,
    'tokenizer.json': { model: { type: 'BPE', vocab, merges: [] } },
  };
  const jsonStream = (value: unknown): FileStream => {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    async function* one(): FileStream['chunks'] {
      yield bytes;
    }
    return { length: bytes.length, isFirm: true, chunks: one() };
  };
  return {
    config,
    sizeBytes: head.length + dataBytes,
    valueAt: (name, index) => decodeFloat16(halves[((beginOf.get(name) ?? 0) / 2 + index) % halves.length] as number),
    source: {
      url: 'https://synthetic.test/model/',
      async open(file) {
        if (file in json) return jsonStream(json[file]);
        if (file !== 'model.safetensors') return null;
        return { length: head.length + dataBytes, isFirm: true, chunks: chunks(), isDisposable: true };
      },
    },
    readBytes: () => read,
  };
}
