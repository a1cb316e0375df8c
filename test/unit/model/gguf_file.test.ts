import { afterEach, describe, expect, test, vi } from 'vitest';
import { ModelFormatError, UnsupportedModelError, VocabularyMismatchError } from '../../../src/errors.ts';
import type { WeightFormat } from '../../../src/kernels/packed.ts';
import type { ModelConfig } from '../../../src/model/config.ts';
import { packedFormatOf } from '../../../src/model/gguf_blocks.ts';
import { inverseFrequencies } from '../../../src/model/rope.ts';
import { urlSource } from '../../../src/model/source.ts';
import { toFloat32 } from '../../../src/model/stored_values.ts';
import { weightFormats } from '../../../src/model/weights.ts';
import { readSafetensors } from '../../reference/checkpoint.ts';
import { dequantize } from '../../reference/dequantize.ts';
import { convertToGguf, type GgufFields, type MatrixType, writeGguf } from '../../reference/gguf.ts';
import { readFolder } from './folders.ts';
import { embeddedGguf, type Family, families, plainTokenizerFields, readCheckpoint, sourceOf } from './gguf_models.ts';
import { loadModelFiles, loadPair } from './loaded.ts';
import { chunked, serve } from './serve.ts';

afterEach(() => vi.unstubAllGlobals());

const load = (file: Uint8Array<ArrayBuffer>) => loadModelFiles(sourceOf(file), { role: 'target' });
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('none'),
    (error) => error,
  );
/** Converts the reference checkpoint of a family, with other metadata. */
const converted = (
  family: Family,
  fields: GgufFields = {},
  change: (checkpoint: ReturnType<typeof readCheckpoint>) => void = () => {},
) => {
  const checkpoint = readCheckpoint(family);
  change(checkpoint);
  const { config, tensors } = checkpoint;
  return convertToGguf(config, tensors, { ...plainTokenizerFields(config.vocabSize), ...fields });
};

/** What the format cannot say of the reference checkpoints: llama.cpp computes otherwise, too. */
const unsaid: Partial<Record<Family, (config: ModelConfig) => Partial<ModelConfig>>> = {
  mistral: ({ windows }) => ({ architecture: 'llama', modelType: 'llama', windows: windows.map(() => null) }),
  qwen2: ({ windows }) => ({ windows: windows.map(() => null) }),
  gemma3: ({ headDim }) => ({ attentionScale: headDim ** -0.5 }),
};

describe.each(families)('%s', (family) => {
  test('config and tensors are those of the checkpoint that it was made from', async () => {
    const { config: stored, tensors: storedTensors } = readCheckpoint(family);
    const { config, tensors, url } = await load(converted(family));
    expect(url).toBe('model.gguf');
    const { ropes, rmsNormEps, normOffset, ...rest } = config;
    const { ropes: storedRopes, rmsNormEps: storedEps, normOffset: storedOffset, ...storedRest } = stored;
    expect(rest).toEqual({ ...storedRest, ...unsaid[family]?.(stored) });
    expect(normOffset).toBe(0);
    expect(Math.fround(rmsNormEps)).toBe(Math.fround(storedEps));
    for (const kind of ['full', 'sliding'] as const) {
      const [got, expected] = [ropes[kind], storedRopes[kind]].map(inverseFrequencies) as [number[], number[]];
      expect(got.length).toBe(expected.length);
      got.forEach((value, i) => {
        expect(Math.abs(value / (expected[i] as number) - 1)).toBeLessThan(1e-6); // factors are stored as float32
      });
      const scale = ({ scaling }: typeof ropes.full) => (scaling.type === 'longrope' ? scaling.attentionFactor : 1);
      expect(scale(ropes[kind])).toBeCloseTo(scale(storedRopes[kind]), 6);
    }
    expect([...tensors.keys()].sort()).toEqual([...storedTensors.keys()].sort());
    for (const [name, tensor] of storedTensors) {
      const isNorm = name.endsWith('norm.weight');
      const expected = dequantize(tensor).map((value) => (isNorm ? value + storedOffset : value));
      expect(tensors.get(name)!.shape).toEqual(tensor.shape);
      expect([name, toFloat32(tensors.get(name)!)]).toEqual([name, Float32Array.from(expected)]);
    }
  });
});

describe('the embedded pair as GGUF', () => {
  test('has the same tensors, tokenizer and end of text', async () => {
    const { config, tensors, tokenizer } = await load(embeddedGguf('stories-650k'));
    const folder = readFolder('stories-650k');
    serve({ 'https://models.test/a/': { files: folder } });
    const expected = await loadModelFiles(urlSource('https://models.test/a/'), { role: 'target' });
    expect({ ...config, rmsNormEps: 0 }).toEqual({ ...expected.config, rmsNormEps: 0 });
    for (const [name, { dtype, data }] of readSafetensors(folder.get('model.safetensors')!)) {
      if (name.includes('norm')) continue;
      expect(tensors.get(name)!.dtype).toBe(dtype);
      expect(Buffer.compare(tensors.get(name)!.data, data)).toBe(0);
    }
    for (const text of ['Once upon a time', ' two  spaces\n', "it's 12345 naïve 😀", '<|endoftext|>a', '']) {
      expect(tokenizer.encode(text)).toEqual(expected.tokenizer.encode(text));
    }
    for (let id = 0; id < config.vocabSize; id++) {
      expect(tokenizer.tokenOf(id)).toBe(expected.tokenizer.tokenOf(id));
      expect(tokenizer.textOf(id)).toBe(expected.tokenizer.textOf(id));
    }
  });

  test('a folder may draft for a GGUF file, whose vocabulary is compared', async () => {
    serve({ 'https://models.test/draft/': { files: readFolder('stories-650k') } });
    const draft = urlSource('https://models.test/draft/');
    const pair = await loadPair(sourceOf(embeddedGguf('stories-3m', 'Q8_0')), draft);
    expect(pair.target.tensors.get('model.layers.0.mlp.up_proj.weight')!.dtype).toBe('Q8_0');
    expect(pair.draft!.config.hiddenSize).toBe(128);
    const fields = plainTokenizerFields(2048);
    const other = embeddedGguf('stories-3m', 'as stored', fields);
    const error = await failure(loadPair(sourceOf(other), draft));
    expect(error).toBeInstanceOf(VocabularyMismatchError);
    expect(error.message).toMatch(/draft\/ does not share the vocabulary of the target model\.gguf/);
  });

  test("a caller's own tokenizer takes the place of the file's", async () => {
    const tokenizer = { encode: () => [5, 6], decode: (ids: number[]) => ids.join(' ') };
    const files = await loadModelFiles(sourceOf(embeddedGguf('stories-650k')), { role: 'target', tokenizer });
    expect(files.tokenizer.encode('x')).toEqual([5, 6]);
  });

  test('the chat template comes with it', async () => {
    const file = embeddedGguf('stories-650k', 'as stored', {
      'tokenizer.chat_template': ['string', '{{ bos_token }}!'],
    });
    expect((await load(file)).chatTemplate).toMatchObject({
      source: '{{ bos_token }}!',
      specialTokens: { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>' },
    });
    expect((await load(embeddedGguf('stories-650k'))).chatTemplate.source).toBeNull();
  });
});

test('each matrix keeps about its own precision where no other is asked for; of stacked ones the finest', async () => {
  const gate = ['model.layers.0.mlp.gate_proj.weight', 'model.layers.0.mlp.up_proj.weight'];
  const qkv = ['q', 'k', 'v'].map((part) => `model.layers.0.self_attn.${part}_proj.weight`);
  const formats = async (matrices: MatrixType, dtype: WeightFormat | null) => {
    const format = weightFormats(await load(embeddedGguf('stories-650k', matrices)), dtype);
    return [gate, qkv, ['model.embed_tokens.weight']].map(format);
  };
  expect(await formats('as stored', null)).toEqual(['f16', 'f16', 'f16']);
  expect(await formats('Q8_0', null)).toEqual(['q8', 'q8', 'q8']);
  expect(await formats('Q8_0 in part', null)).toEqual(['q8', 'f16', 'f16']);
  expect(await formats('Q8_0 in part', 'q4')).toEqual(['q4', 'q4', 'q8']);
  expect(await formats('Q8_0', 'f16')).toEqual(['f16', 'f16', 'f16']);
  const types = ['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K', 'BF16', 'F32'] as const;
  expect(types.map(packedFormatOf)).toEqual(['q4', ...Array(7).fill('q8'), 'f16', 'f16']);
});

describe('over HTTP', () => {
  const URL = 'https://models.test/models/a.gguf';
  /** Longer than the first read of a head. */
  const padding: GgufFields = { padding: ['raw', 9, new Uint8Array(5 * 2 ** 20 + 12)] };
  new DataView((padding.padding![2] as Uint8Array).buffer).setBigUint64(4, BigInt(5 * 2 ** 20), true);
  const small = embeddedGguf('stories-650k');
  const large = embeddedGguf('stories-650k', 'as stored', padding);

  /** A server with or without ranges. */
  const answer = (file: Uint8Array, knowsRanges: boolean): { range: string | null; sent: number }[] => {
    const requests: { range: string | null; sent: number }[] = [];
    vi.stubGlobal('fetch', async (_: unknown, { headers }: { headers?: { range: string } }) => {
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers?.range ?? '') ?? [];
      const isPart = knowsRanges && first !== undefined;
      if (isPart && Number(first) >= file.length) return new Response('', { status: 416 });
      const body = isPart ? file.subarray(Number(first), Number(last) + 1) : file;
      const request = { range: headers?.range ?? null, sent: 0 };
      requests.push(request);
      const count = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          request.sent += chunk.length;
          controller.enqueue(chunk);
        },
      });
      return new Response(chunked(body).pipeThrough(count), {
        status: isPart ? 206 : 200,
        headers: { 'content-length': String(body.length) },
      });
    });
    return requests;
  };
  const loadUrl = (onProgress = vi.fn()) => loadModelFiles(urlSource(URL), { role: 'target', onProgress });

  test('a small file takes one request, and reports its progress', async () => {
    const requests = answer(small, true);
    const onProgress = vi.fn();
    const { url, tensors } = await loadUrl(onProgress);
    expect(url).toBe(URL);
    expect(tensors.size).toBe(20);
    expect(requests.map(({ range }) => range)).toEqual(['bytes=0-4194303']);
    const total = onProgress.mock.lastCall![0].totalBytes as number;
    expect(onProgress.mock.calls).toEqual(
      [0, total].map((loadedBytes) => [{ model: 'target', loadedBytes, totalBytes: total }]),
    );
    expect(total).toBeGreaterThan(1_300_000);
  });

  test.each([true, false])('a long head is read in parts, the tensors in one; ranges: %s', async (knowsRanges) => {
    const expected = await load(small);
    const requests = answer(large, knowsRanges);
    const onProgress = vi.fn();
    const { tensors } = await loadUrl(onProgress);
    expect(tensors.size).toBe(expected.tensors.size);
    for (const [name, { data }] of expected.tensors) expect(Buffer.compare(tensors.get(name)!.data, data)).toBe(0);
    // The second read holds all of this file.
    expect(requests.map(({ range }) => range)).toEqual(['bytes=0-4194303', 'bytes=4194304-8388607']);
    expect(onProgress.mock.lastCall![0].loadedBytes).toBe(onProgress.mock.lastCall![0].totalBytes);
  });

  test('tensors beyond the head are read once, by one range', async () => {
    const big = new Uint8Array(8 * 2 ** 20);
    big.set(small);
    const requests = answer(big, true);
    // A server may send more than the file has; the head says where the tensors end.
    await loadUrl();
    expect(requests).toHaveLength(1);
    const { config, tensors } = readCheckpoint('llama');
    const vocabSize = 2 ** 16;
    const embedding = { dtype: 'F16' as const, shape: [vocabSize, 24], data: new Uint8Array(vocabSize * 48).fill(1) };
    const grown = new Map([...tensors, ['model.embed_tokens.weight', embedding], ['lm_head.weight', embedding]]);
    const file = convertToGguf({ ...config, vocabSize }, grown, plainTokenizerFields(200));
    const asked = answer(file, true);
    const onProgress = vi.fn();
    const { tensors: read } = await loadUrl(onProgress);
    expect(asked.map(({ range }) => /^bytes=(\d+)-/.exec(range!)![1])).toEqual(['0', expect.stringMatching(/^\d+$/)]);
    expect(Buffer.compare(read.get('lm_head.weight')!.data, embedding.data)).toBe(0);
    const last = onProgress.mock.lastCall![0];
    expect(last.totalBytes).toBe(asked[1]!.sent);
    expect(onProgress.mock.calls[0]![0]).toMatchObject({ loadedBytes: 0, totalBytes: last.totalBytes });
    // Cut short, and with a server that says nothing of it.
    answer(file.subarray(0, file.length - 4096), true);
    expect((await failure(loadUrl())).message).toMatch(
      /a\.gguf is not a valid GGUF file: its tensors end at byte \d+, the file at/,
    );
  });

  test('errors name the file, and a page in its place is told apart', async () => {
    vi.stubGlobal('fetch', async () => new Response('', { status: 404 }));
    expect((await failure(loadUrl())).message).toMatch(
      /models\/a\.gguf: expected status 200, got 404.* Check the URL\.$/,
    );
    vi.stubGlobal('fetch', async () => new Response('<!doctype html>'));
    expect((await failure(loadUrl())).message).toMatch(/a\.gguf is an HTML page/);
  });
});

describe('malformed models', () => {
  const without =
    (...names: string[]) =>
    (checkpoint: ReturnType<typeof readCheckpoint>) => {
      checkpoint.tensors = new Map([...checkpoint.tensors].filter(([name]) => !names.includes(name)));
    };
  const cases: [string, Uint8Array<ArrayBuffer>, typeof ModelFormatError | typeof UnsupportedModelError, RegExp][] = [
    [
      'no architecture',
      writeGguf({}, []),
      ModelFormatError,
      /metadata general\.architecture to be a text, got nothing/,
    ],
    [
      'another architecture',
      writeGguf({ 'general.architecture': ['string', 'mamba'] }, []),
      UnsupportedModelError,
      /general\.architecture "mamba" is not supported, only "llama", "qwen2", "qwen3", "gemma3", "phi3", "olmo2"/,
    ],
    [
      'a mixture of experts',
      converted('llama', { 'llama.expert_count': ['u32', 8] }),
      UnsupportedModelError,
      /llama\.expert_count 8 is not supported/,
    ],
    [
      'a size of text',
      converted('llama', { 'llama.block_count': ['string', '3'] }),
      ModelFormatError,
      /llama\.block_count to be a number, got "3"/,
    ],
    [
      'a size per layer',
      converted('llama', { 'llama.attention.head_count_kv': ['u32s', [1, 2]] }),
      ModelFormatError,
      /head_count_kv to be a number, got a list of length 2/,
    ],
    [
      'a size of 2^64 − 1',
      converted('llama', { 'llama.block_count': ['raw', 10, new Uint8Array(8).fill(255)] }),
      ModelFormatError,
      /block_count to be a number, got 18446744073709551615/,
    ],
    [
      'a size of 0',
      converted('llama', { 'llama.embedding_length': ['u32', 0] }),
      ModelFormatError,
      /hidden_size must be a whole number/,
    ],
    [
      'a size of 4 billion',
      converted('llama', { 'llama.block_count': ['u32', 2 ** 32 - 1] }),
      ModelFormatError,
      /num_hidden_layers must be/,
    ],
    [
      'an epsilon of NaN',
      converted('llama', { 'llama.attention.layer_norm_rms_epsilon': ['f32', Number.NaN] }),
      ModelFormatError,
      /rms_norm_eps must be/,
    ],
    [
      'values of another length than keys',
      converted('llama', { 'llama.attention.value_length': ['u32', 8] }),
      UnsupportedModelError,
      /value_length 8 is not supported/,
    ],
    [
      'another scaling of the rotation',
      converted('qwen3', { 'qwen3.rope.scaling.type': ['string', 'yarn'], 'qwen3.rope.scaling.factor': ['f32', 4] }),
      UnsupportedModelError,
      /rope_type "yarn" is not supported/,
    ],
    [
      'a rotation of a part of each head',
      converted('qwen3', { 'qwen3.rope.dimension_count': ['u32', 6] }),
      UnsupportedModelError,
      /partial_rotary_factor/,
    ],
    [
      'a window where the family has none',
      converted('llama', { 'llama.attention.sliding_window': ['u32', 64] }),
      UnsupportedModelError,
      /sliding_window 64 is not supported/,
    ],
    [
      'capped logits',
      converted('gemma3', { 'gemma3.final_logit_softcapping': ['f32', 30] }),
      UnsupportedModelError,
      /final_logit_softcapping 30/,
    ],
    [
      'a missing tensor',
      converted('llama', {}, without('model.layers.1.self_attn.k_proj.weight')),
      ModelFormatError,
      /tensor blk\.1\.attn_k\.weight is missing, which the metadata implies/,
    ],
    [
      'a missing embedding',
      converted('llama', {}, without('model.embed_tokens.weight')),
      ModelFormatError,
      /tensor token_embd\.weight is missing/,
    ],
    [
      'a bias of some layers',
      converted('llama', {}, without('model.layers.0.self_attn.q_proj.bias')),
      ModelFormatError,
      /tensor "blk\.0\.attn_k\.bias" has no place/,
    ],
    [
      'more layers than announced',
      converted('llama', { 'llama.block_count': ['u32', 2] }),
      ModelFormatError,
      /tensor "blk\.2\..*" has no place/,
    ],
    [
      'another number of heads',
      converted('llama', { 'llama.attention.head_count_kv': ['u32', 4] }),
      ModelFormatError,
      /tensor blk\.0\.attn_k\.weight has the shape \[24, 24\], expected \[48, 24\]/,
    ],
    [
      'a vector of another length',
      converted('llama', { 'llama.feed_forward_length': ['u32', 32] }),
      ModelFormatError,
      /ffn_gate\.weight has the shape \[36, 24\], expected \[32, 24\]/,
    ],
    [
      'an unknown tokenizer',
      converted('llama', { 'tokenizer.ggml.model': ['string', 'bert'] }),
      UnsupportedModelError,
      /tokenizer\.ggml\.model "bert" is not supported, only "gpt2"/,
    ],
    [
      'an unknown way to cut words',
      converted('llama', { 'tokenizer.ggml.pre': ['string', 'chameleon'] }),
      UnsupportedModelError,
      /tokenizer\.ggml\.pre "chameleon" is not supported, only gpt-2, phi-2/,
    ],
    [
      'no tokens',
      converted('llama', { 'tokenizer.ggml.tokens': ['string', 'a'] }),
      ModelFormatError,
      /tokenizer\.ggml\.tokens to be a list of texts/,
    ],
    [
      'tokens that are numbers',
      converted('llama', { 'tokenizer.ggml.tokens': ['u32s', [1]] }),
      ModelFormatError,
      /tokenizer\.ggml\.tokens to be a list of texts/,
    ],
    [
      'fewer types than tokens',
      converted('llama', { 'tokenizer.ggml.token_type': ['i32s', [1]] }),
      ModelFormatError,
      /1 token types for 101 tokens/,
    ],
    [
      'a token twice',
      converted('llama', { 'tokenizer.ggml.tokens': ['strings', Array.from({ length: 101 }, (_, i) => `t${i % 99}`)] }),
      ModelFormatError,
      /its tokens 0 and 99 are both "t0"|its tokens .* are both/,
    ],
    [
      'an end of text behind the vocabulary',
      converted('llama', { 'tokenizer.ggml.eos_token_id': ['u32', 101] }),
      ModelFormatError,
      /eos_token_id must be a token id from 0 to 100/,
    ],
    [
      'a padding token behind the tokens',
      converted('llama', { 'tokenizer.ggml.padding_token_id': ['u32', 101] }),
      ModelFormatError,
      /padding_token_id is 101, of 101 tokens/,
    ],
    [
      'a merge without a token',
      converted('llama', { 'tokenizer.ggml.merges': ['strings', ['x y']] }),
      ModelFormatError,
      /merge of "x" and "y" has no token/,
    ],
    [
      'a merge of one part',
      converted('llama', { 'tokenizer.ggml.merges': ['strings', ['xy']] }),
      ModelFormatError,
      /no pair/,
    ],
    [
      'more tokens than rows',
      converted('llama', plainTokenizerFields(200)),
      ModelFormatError,
      /token ids up to 199, expected less than the 101 rows/,
    ],
  ];
  test.each(cases)('%s', async (_, file, errorClass, message) => {
    const error = await failure(load(file));
    expect(error.message).toMatch(message);
    expect(error).toBeInstanceOf(errorClass);
    expect(error.message).toMatch(/^(Expected )?model\.gguf/);
    expect(error.message).toMatch(/\. (Use|Download|Convert|Check) /);
  });

  test.each([
    ['0', [1, 1, 0, 1, 1, 1], /expected tensor rope_factors_short\.weight to hold numbers above 0/],
    ['no number', [1, 1, Number.NaN, 1, 1, 1], /numbers above 0/],
    ['infinite', [1, 1, 1, 1, 1, Number.POSITIVE_INFINITY], /numbers above 0/],
    ['too few', [1, 1, 1], /rope_factors_short\.weight is F32 \[3\], expected F32 \[6\]/],
  ])('a factor of the rotation that is %s', async (_, factors, message) => {
    const file = converted('phi3', {}, (checkpoint) => {
      const { config } = checkpoint;
      const rope = { ...config.ropes.full, scaling: { type: 'longrope', factors, attentionFactor: 1 } as const };
      checkpoint.config = { ...config, ropes: { full: rope, sliding: rope } };
    });
    const error = await failure(load(file));
    expect(error).toBeInstanceOf(ModelFormatError);
    expect(error.message).toMatch(message);
  });
});
