import type { ForetokenErrorName } from '../../../src/errors.ts';

/** File name → contents. Mutations replace entries and leave the arrays alone: they may be shared. */
export type FolderFiles = Map<string, Uint8Array>;

/** How a server answers for one file, where that is not plainly "200 and the contents" or "404, no such file". */
export type Answer = { status?: number; announcedBytes?: number; networkError?: boolean };

export type MalformedFolder = {
  name: string;
  /** Which of the two folders of a pair is damaged; the other one is good. */
  role: 'target' | 'draft';
  mutate(files: FolderFiles): void;
  answers?: Record<string, Answer>;
  error: ForetokenErrorName;
  /** Must match the message: the file, then the fault. */
  message: RegExp;
};

type Json = Record<string, unknown>;
type HeaderEntry = { dtype: string; shape: number[]; data_offsets: [number, number] };
type Header = Record<string, HeaderEntry>;

const WEIGHTS = 'model.safetensors';
const Q_PROJ = 'model.layers.0.self_attn.q_proj.weight';
const K_PROJ = 'model.layers.0.self_attn.k_proj.weight';
const HTML = '<!doctype html>\n<html><head><title>App</title></head><body></body></html>';

const put = (file: string, text: string) => (files: FolderFiles) => {
  files.set(file, new TextEncoder().encode(text));
};

const drop = (file: string) => (files: FolderFiles) => {
  files.delete(file);
};

const editText = (file: string, edit: (text: string) => string) => (files: FolderFiles) => {
  const before = new TextDecoder().decode(files.get(file)!);
  const after = edit(before);
  if (after === before) throw new Error(`the edit of ${file} changed nothing`);
  put(file, after)(files);
};

const editJson = (file: string, edit: (json: Json) => void) =>
  editText(file, (text) => {
    const json = JSON.parse(text) as Json;
    edit(json);
    return JSON.stringify(json);
  });

const config = (entries: Json) => editJson('config.json', (json) => Object.assign(json, entries));

const editBytes = (edit: (bytes: Uint8Array) => Uint8Array) => (files: FolderFiles) => {
  files.set(WEIGHTS, edit(files.get(WEIGHTS)!.slice()));
};

/** Replaces the text of the safetensors header and corrects its length; the tensor data stays. */
const editHeaderText = (edit: (text: string) => string) =>
  editBytes((bytes) => {
    const dataStart = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header = new TextEncoder().encode(edit(new TextDecoder().decode(bytes.subarray(8, dataStart))));
    const result = new Uint8Array(8 + header.length + bytes.length - dataStart);
    new DataView(result.buffer).setBigUint64(0, BigInt(header.length), true);
    result.set(header, 8);
    result.set(bytes.subarray(dataStart), 8 + header.length);
    return result;
  });

const editHeader = (edit: (header: Header) => void) =>
  editHeaderText((text) => {
    const header = JSON.parse(text) as Header;
    edit(header);
    return JSON.stringify(header);
  });

const setHeaderLength = (length: bigint) =>
  editBytes((bytes) => {
    new DataView(bytes.buffer).setBigUint64(0, length, true);
    return bytes;
  });

/** Adds a tensor and its (zero) data at the end, so that the file itself stays valid. */
const addTensor = (name: string, dtype: string, shape: number[], sizeBytes: number) => (files: FolderFiles) => {
  editHeader((header) => {
    const end = Math.max(...Object.values(header).map((entry) => entry.data_offsets?.[1] ?? 0));
    header[name] = { dtype, shape, data_offsets: [end, end + sizeBytes] };
  })(files);
  editBytes((bytes) => {
    const longer = new Uint8Array(bytes.length + sizeBytes);
    longer.set(bytes);
    return longer;
  })(files);
};

const vocabOf = (json: Json) => (json.model as { vocab: Record<string, number> }).vocab;

const target = (entry: Omit<MalformedFolder, 'role'>): MalformedFolder => ({ role: 'target', ...entry });

/** One fault per folder. The good folder they start from is one of the embedded pair (F16, tied, 2,048 tokens). */
export const malformedFolders: readonly MalformedFolder[] = [
  // What a server does.
  target({
    name: 'config.json is a 404',
    mutate: drop('config.json'),
    error: 'ModelFetchError',
    message: /config\.json: expected status 200, got 404/,
  }),
  target({
    name: 'the weights are a 404',
    mutate: drop(WEIGHTS),
    error: 'ModelFetchError',
    message: /model\.safetensors: expected status 200, got 404.*index\.json/,
  }),
  target({
    name: 'the server breaks',
    mutate: () => {},
    answers: { 'tokenizer.json': { status: 503 } },
    error: 'ModelFetchError',
    message: /tokenizer\.json: expected status 200, got 503.*later/,
  }),
  target({
    name: 'an optional file is forbidden, which is not the same as missing',
    mutate: () => {},
    answers: { 'generation_config.json': { status: 403 } },
    error: 'ModelFetchError',
    message: /generation_config\.json: expected status 200, got 403/,
  }),
  target({
    name: 'the network fails',
    mutate: () => {},
    answers: { [WEIGHTS]: { networkError: true } },
    error: 'ModelFetchError',
    message: /Could not fetch .*model\.safetensors: .*Access-Control-Allow-Origin/,
  }),
  target({
    name: 'the body ends early',
    mutate: editBytes((bytes) => bytes.slice(0, 500_000)),
    answers: { [WEIGHTS]: { announcedBytes: 1_314_280 } },
    error: 'ModelFetchError',
    message: /model\.safetensors ended early: expected 1314280 bytes, got 500000/,
  }),
  target({
    name: 'config.json is the start page of an app',
    mutate: put('config.json', HTML),
    error: 'ModelFormatError',
    message: /config\.json is an HTML page/,
  }),
  target({
    name: 'the weights are the start page of an app',
    mutate: put(WEIGHTS, HTML),
    error: 'ModelFormatError',
    message: /model\.safetensors is an HTML page/,
  }),
  // safetensors
  target({
    name: 'empty weights file',
    mutate: put(WEIGHTS, ''),
    error: 'ModelFormatError',
    message: /model\.safetensors .*at least 8 bytes, got 0/,
  }),
  target({
    name: 'truncated weights file',
    mutate: editBytes((bytes) => bytes.slice(0, -1000)),
    error: 'ModelFormatError',
    message: /model\.safetensors .*tensor "model\..*truncated/,
  }),
  target({
    name: 'header length beyond the file',
    mutate: setHeaderLength(1n << 40n),
    error: 'ModelFormatError',
    message: /model\.safetensors .*header length is 1099511627776, which is beyond the end/,
  }),
  target({
    name: 'header length of 2^64 − 1',
    mutate: setHeaderLength((1n << 64n) - 1n),
    error: 'ModelFormatError',
    message: /model\.safetensors .*header length is 18446744073709551615, which is beyond/,
  }),
  target({
    name: 'header cut short',
    mutate: setHeaderLength(100n),
    error: 'ModelFormatError',
    message: /model\.safetensors .*header is not JSON/,
  }),
  target({
    name: 'header is a list',
    mutate: editHeaderText(() => '[]'),
    error: 'ModelFormatError',
    message: /model\.safetensors .*header is not a JSON object/,
  }),
  target({
    name: 'overlapping tensors',
    mutate: editHeader((header) => {
      const { begin, size } = rangeOf(header[Q_PROJ]!);
      header[Q_PROJ]!.data_offsets = [begin - 2, begin - 2 + size];
    }),
    error: 'ModelFormatError',
    message: /model\.safetensors .*tensor "model\.layers\.0\.self_attn\.q_proj\.weight" overlaps "model\./,
  }),
  target({
    name: 'two tensors in the same place',
    mutate: editHeader((header) => {
      header['model.norm.weight']!.data_offsets = header['model.layers.0.input_layernorm.weight']!.data_offsets;
    }),
    error: 'ModelFormatError',
    message: /model\.safetensors .*"model\.norm\.weight".* overlaps|overlaps "model\.norm\.weight"/,
  }),
  target({
    name: 'bytes that belong to no tensor',
    mutate: editBytes((bytes) => new Uint8Array([...bytes, 1, 2, 3, 4])),
    error: 'ModelFormatError',
    message: /model\.safetensors .*4 bytes after the last tensor/,
  }),
  target({
    name: 'a tensor taken out of the header leaves a hole',
    mutate: editHeader((header) => {
      delete header[Q_PROJ];
    }),
    error: 'ModelFormatError',
    message: /model\.safetensors .*a hole of 32768 bytes before tensor/,
  }),
  target({
    name: 'a tensor listed twice',
    mutate: editHeaderText((text) => `{${JSON.stringify(Q_PROJ)}:null,${text.slice(text.indexOf('{') + 1)}`),
    error: 'ModelFormatError',
    message: /model\.safetensors .*"model\.layers\.0\.self_attn\.q_proj\.weight" occurs twice/,
  }),
  target({
    name: 'negative shape',
    mutate: editHeader((header) => {
      header[Q_PROJ]!.shape = [-128, -128];
    }),
    error: 'ModelFormatError',
    message: /model\.safetensors .*q_proj\.weight" has the shape \[-128,-128\]/,
  }),
  target({
    name: 'fractional shape',
    mutate: editHeader((header) => {
      header[Q_PROJ]!.shape = [0.5, 32768];
    }),
    error: 'ModelFormatError',
    message: /model\.safetensors .*q_proj\.weight" has the shape \[0\.5,32768\]/,
  }),
  target({
    name: 'overflowing shape',
    mutate: editHeader((header) => {
      header[Q_PROJ]!.shape = [2 ** 40, 2 ** 40];
    }),
    error: 'ModelFormatError',
    message: /model\.safetensors .*q_proj\.weight" overflows/,
  }),
  target({
    name: 'data type that does not fit the bytes',
    mutate: editHeader((header) => {
      header[Q_PROJ]!.dtype = 'F32';
    }),
    error: 'ModelFormatError',
    message: /model\.safetensors .*q_proj\.weight" takes 32768 bytes, expected 65536 for F32/,
  }),
  // Weights against config.json
  target({
    name: 'missing tensor',
    mutate: editHeaderText((text) => text.replace(Q_PROJ, 'some.other.weight')),
    error: 'ModelFormatError',
    message: /model\.safetensors: tensor model\.layers\.0\.self_attn\.q_proj\.weight is missing/,
  }),
  target({
    name: 'wrong shape',
    mutate: editHeader((header) => {
      header[K_PROJ]!.shape.reverse();
    }),
    error: 'ModelFormatError',
    message: /model\.safetensors: tensor .*k_proj\.weight has the shape \[128, 64\], expected \[64, 128\]/,
  }),
  target({
    name: 'unsupported data type',
    mutate: editHeader((header) => {
      header[Q_PROJ]!.dtype = 'I16';
    }),
    error: 'UnsupportedModelError',
    message: /model\.safetensors: tensor .*q_proj\.weight has the data type I16, expected F16, BF16 or F32/,
  }),
  target({
    name: 'a bias that config.json denies',
    mutate: addTensor('model.layers.0.self_attn.q_proj.bias', 'F16', [128], 256),
    error: 'ModelFormatError',
    message: /model\.safetensors: tensor "model\.layers\.0\.self_attn\.q_proj\.bias" has no place/,
  }),
  target({
    name: 'more layers in the file than in config.json',
    mutate: config({ num_hidden_layers: 1 }),
    error: 'ModelFormatError',
    message: /model\.safetensors: tensor "model\.layers\.1\..*" has no place/,
  }),
  target({
    name: 'more layers in config.json than in the file',
    mutate: config({ num_hidden_layers: 3 }),
    error: 'ModelFormatError',
    message: /model\.safetensors: tensor model\.layers\.2\.input_layernorm\.weight is missing/,
  }),
  target({
    name: 'untied head without a head',
    mutate: config({ tie_word_embeddings: false }),
    error: 'ModelFormatError',
    message: /model\.safetensors: tensor lm_head\.weight is missing.*tie_word_embeddings/,
  }),
  target({
    name: 'another number of kv heads than the weights have',
    mutate: config({ num_key_value_heads: 2 }),
    error: 'ModelFormatError',
    message: /model\.safetensors: tensor .*k_proj\.weight has the shape \[64, 128\], expected \[128, 128\]/,
  }),
  // config.json
  target({
    name: 'config.json is not JSON',
    mutate: put('config.json', '{"hidden_size": 128,'),
    error: 'ModelFormatError',
    message: /config\.json is not JSON/,
  }),
  target({
    name: 'config.json is empty',
    mutate: put('config.json', ''),
    error: 'ModelFormatError',
    message: /config\.json is not JSON: it is empty/,
  }),
  target({
    name: 'config.json is a list',
    mutate: put('config.json', '[]'),
    error: 'ModelFormatError',
    message: /config\.json: expected a JSON object, got \[\]/,
  }),
  target({
    name: 'hidden_size is NaN',
    mutate: editText('config.json', (text) => text.replace('"hidden_size": 128', '"hidden_size": NaN')),
    error: 'ModelFormatError',
    message: /config\.json is not JSON/,
  }),
  target({
    name: 'rms_norm_eps is infinite',
    mutate: editText('config.json', (text) => text.replace('1e-05', '1e999')),
    error: 'ModelFormatError',
    message: /config\.json: rms_norm_eps must be a number above 0, got Infinity/,
  }),
  target({
    name: 'vocab_size is null',
    mutate: config({ vocab_size: null }),
    error: 'ModelFormatError',
    message: /config\.json: vocab_size must be a whole number .* got nothing/,
  }),
  target({
    name: 'heads that kv heads do not divide',
    mutate: config({ num_attention_heads: 5, num_key_value_heads: 2 }),
    error: 'ModelFormatError',
    message: /config\.json: num_attention_heads \(5\) must be a multiple of num_key_value_heads, got 2/,
  }),
  target({
    name: 'head_dim that is no multiple of 4',
    mutate: config({ head_dim: 62 }),
    error: 'UnsupportedModelError',
    message: /config\.json: head_dim 62 is not supported, only multiples of 4/,
  }),
  target({
    name: 'another architecture',
    mutate: config({ architectures: ['GemmaForCausalLM'], model_type: 'gemma' }),
    error: 'UnsupportedModelError',
    message:
      /config\.json: architectures \["GemmaForCausalLM"\] is not supported, only "LlamaForCausalLM", .*"Olmo2ForCausalLM"/,
  }),
  target({
    name: 'another family than the weights',
    mutate: config({ architectures: ['Qwen2ForCausalLM'], model_type: 'qwen2' }),
    error: 'ModelFormatError',
    message: /model\.safetensors: tensor model\.layers\.0\.self_attn\.q_proj\.bias is missing/,
  }),
  target({
    name: 'a class and a model_type of different families',
    mutate: config({ model_type: 'qwen2' }),
    error: 'UnsupportedModelError',
    message: /config\.json: model_type "qwen2" is not supported, only "llama"/,
  }),
  target({
    name: 'a rope scaling that nobody implements here',
    mutate: config({ rope_scaling: { rope_type: 'yarn', factor: 4 } }),
    error: 'UnsupportedModelError',
    message: /config\.json: rope_type "yarn" is not supported, only .*"llama3"/,
  }),
  target({
    name: 'half of a rope scaling',
    mutate: config({ rope_scaling: { rope_type: 'llama3', factor: 32 } }),
    error: 'ModelFormatError',
    message: /config\.json: low_freq_factor must be a number above 0, got nothing/,
  }),
  target({
    name: 'a window in a family without',
    mutate: config({ sliding_window: 64 }),
    error: 'UnsupportedModelError',
    message: /config\.json: sliding_window 64 is not supported, only null/,
  }),
  target({
    name: 'quantised weights',
    mutate: config({ quantization_config: { quant_method: 'gptq', bits: 4 } }),
    error: 'UnsupportedModelError',
    message: /config\.json: quantization_config .*gptq.* is not supported/,
  }),
  target({
    name: 'another activation',
    mutate: config({ hidden_act: 'gelu' }),
    error: 'UnsupportedModelError',
    message: /config\.json: hidden_act "gelu" is not supported, only "silu"/,
  }),
  target({
    name: 'end-of-sequence id out of range',
    mutate: config({ eos_token_id: [0, 2048] }),
    error: 'ModelFormatError',
    message: /\/config\.json: eos_token_id must be a token id from 0 to 2047 .* got 2048/,
  }),
  target({
    name: 'end-of-sequence id of generation_config.json out of range',
    mutate: put('generation_config.json', '{"eos_token_id": -1}'),
    error: 'ModelFormatError',
    message: /generation_config\.json: eos_token_id must be a token id from 0 to 2047 .* got -1/,
  }),
  target({
    name: 'generation_config.json is not JSON',
    mutate: put('generation_config.json', 'eos_token_id = 0'),
    error: 'ModelFormatError',
    message: /generation_config\.json is not JSON/,
  }),
  // Tokenizer
  target({
    name: 'tokenizer.json cut short',
    mutate: editText('tokenizer.json', (text) => text.slice(0, 1000)),
    error: 'ModelFormatError',
    message: /tokenizer\.json is not JSON/,
  }),
  target({
    name: 'tokenizer.json without a model',
    mutate: put('tokenizer.json', '{"version": "1.0"}'),
    error: 'ModelFormatError',
    message: /tokenizer\.json is not a valid tokenizer: it has no model/,
  }),
  target({
    name: 'two tokens with one id',
    mutate: editJson('tokenizer.json', (json) => {
      vocabOf(json).a = vocabOf(json).b!;
    }),
    error: 'ModelFormatError',
    message: /tokenizer\.json is not a valid tokenizer: the id 67 is given to two tokens/,
  }),
  target({
    name: 'more tokens than the embedding has rows',
    mutate: editJson('tokenizer.json', (json) => {
      vocabOf(json).surplus = 2048;
    }),
    error: 'ModelFormatError',
    message: /tokenizer\.json has token ids up to 2048, expected less than the vocab_size 2048/,
  }),
  target({
    name: 'a pre-tokenizer that nobody knows',
    mutate: editJson('tokenizer.json', (json) => {
      json.pre_tokenizer = { type: 'Clairvoyant' };
    }),
    error: 'UnsupportedModelError',
    message: /tokenizer\.json: Unknown PreTokenizer type: Clairvoyant/,
  }),
  target({
    name: 'a BOS token that is not in the vocabulary',
    mutate: editJson('tokenizer_config.json', (json) => {
      json.bos_token = '<s>';
    }),
    error: 'ModelFormatError',
    message: /tokenizer\.json is not a valid tokenizer: its bos_token "<s>" is not in the vocabulary/,
  }),
  // The pair
  {
    name: 'draft with two tokens swapped',
    role: 'draft',
    mutate: editJson('tokenizer.json', (json) => {
      const vocab = vocabOf(json);
      [vocab.y, vocab.z] = [vocab.z!, vocab.y!];
    }),
    error: 'VocabularyMismatchError',
    message: /draft model .*draft\/.* token id 90 is "z" in the draft .* and "y" in the target/,
  },
  {
    name: 'draft with one more token',
    role: 'draft',
    mutate: editJson('tokenizer.json', (json) => {
      (json.added_tokens as Json[]).push({ id: 2048, content: '<|im_start|>', special: true });
    }),
    error: 'VocabularyMismatchError',
    message:
      /token id 2048 is "<\|im_start\|>" in the draft \(2049 tokens\) and no token in the target \(2048 tokens\)/,
  },
  {
    name: 'draft with padding that its embedding has not',
    role: 'draft',
    mutate: config({ vocab_size: 2112 }),
    error: 'ModelFormatError',
    message:
      /draft\/model\.safetensors: tensor .*embed_tokens\.weight has the shape \[2048, 128\], expected \[2112, 128\]/,
  },
  {
    name: 'draft with a missing tensor',
    role: 'draft',
    mutate: editHeaderText((text) => text.replace('model.norm.weight', 'norm.weight')),
    error: 'ModelFormatError',
    message: /draft\/model\.safetensors: tensor model\.norm\.weight is missing/,
  },
];

function rangeOf(entry: HeaderEntry): { begin: number; size: number } {
  const [begin, end] = entry.data_offsets;
  return { begin, size: end - begin };
}
