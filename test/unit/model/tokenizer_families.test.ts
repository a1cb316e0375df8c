/** Tokenizers with the pipelines that the model families publish, against Hugging Face transformers on 2,000 strings. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseGgufHead } from '../../../src/model/gguf.ts';
import { readMetadata } from '../../../src/model/gguf_metadata.ts';
import { readGgufTokenizer } from '../../../src/model/gguf_tokenizer.ts';
import { byteFallbackBytes } from '../../../src/model/token_pieces.ts';
import { createTokenizer, type Tokenizer } from '../../../src/model/tokenizer.ts';
import { type GgufFields, ggufTokenizerFields, writeGguf } from '../../reference/gguf.ts';

/** As make_tokenizers.py writes it. Hashes are of all strings (sequences, tokens), in their order. */
type Expected = {
  vocabSize: number;
  ids: number[][];
  idHashes: string;
  bareIdHashes: string;
  decodedHashes: string;
  randomDecodedHashes: string;
  tokenHashes: string;
};

const read = (file: string) =>
  JSON.parse(readFileSync(new URL(`../../reference/data/tokenizers/${file}`, import.meta.url), 'utf8'));
const { strings, sequences } = read('strings.json') as { strings: string[]; sequences: number[][] };

/** 32-bit FNV-1a of the UTF-8, in base 36. */
function hashOf(text: string): string {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value.toString(36);
}

/** Inputs whose result has not the hash that it should have, a few of them, with the result. */
function differences<T>(inputs: readonly T[], hashes: string, results: readonly string[]): { input: T; got: string }[] {
  const list = hashes.split(' ');
  expect(list.length).toBe(inputs.length);
  return inputs
    .map((input, i) => ({ input, got: results[i]!, hash: list[i] }))
    .filter(({ got, hash }) => hashOf(got) !== hash)
    .slice(0, 5);
}

const same: [] = [];

/**
 * A run of byte tokens that is not UTF-8 is one U+FFFD per byte in transformers. We decode what can be decoded, because
 * a text that is streamed has shown it already. With another token for each of those bytes the two are the same again.
 */
function withoutBrokenRuns(tokenizer: Tokenizer, tokens: readonly number[]): { tokens: number[]; broken: number[][] } {
  const runs: { bytes: number[]; tokens: number[] }[] = [];
  let isOpen = false;
  for (const id of tokens) {
    // Special tokens are left out before.
    if (tokenizer.decode([id]) === '' && tokenizer.textOf(id) !== '') continue;
    const byte = byteFallbackBytes(tokenizer.tokenOf(id)!);
    if (byte === null || !isOpen) runs.push({ bytes: [], tokens: [] });
    isOpen = byte !== null;
    runs.at(-1)!.tokens.push(id);
    runs.at(-1)!.bytes.push(...(byte ?? []));
  }
  const isBroken = ({ bytes }: { bytes: number[] }) =>
    bytes.length > 0 && !Buffer.from(Buffer.from(bytes).toString('utf8'), 'utf8').equals(Buffer.from(bytes));
  const replacement = tokenizer.idOf('\uFFFD')!;
  return {
    tokens: runs.flatMap((run) => (isBroken(run) ? run.tokens.map(() => replacement) : run.tokens)),
    broken: runs.filter(isBroken).map(({ tokens: run }) => run),
  };
}

const families = 'llama2 llama3 smollm2 mistral mistral_nemo qwen gemma3 phi3 phi4mini olmo2 unigram'.split(' ');

describe.each(families)('%s', (family) => {
  const expected = read(`${family}/expected.json`) as Expected;
  const json = read(`${family}/tokenizer.json`);
  const tokenizer = createTokenizer(json, read(`${family}/tokenizer_config.json`), `${family}/tokenizer.json`);
  const ids = strings.map((text) => tokenizer.encode(text));

  test('ids, with and without what stands around a text', () => {
    expect(tokenizer.vocabSize).toBe(expected.vocabSize);
    const written = strings.slice(0, expected.ids.length);
    expect(written.map((text, i) => [text, ids[i]])).toEqual(written.map((text, i) => [text, expected.ids[i]]));
    const got = ids.map((list) => list.join());
    expect(differences(strings, expected.idHashes, got)).toEqual(same);
    const bare = strings.map((text) => tokenizer.encodeRendered(text).join());
    expect(differences(strings, expected.bareIdHashes, bare)).toEqual(same);
  });

  test('texts of these ids, and of each token', () => {
    const texts = ids.map((list) => tokenizer.decode(list));
    expect(differences(strings, expected.decodedHashes, texts)).toEqual(same);
    const all = Array.from({ length: expected.vocabSize }, (_, id) => id);
    const each = all.map((id) => tokenizer.textOf(id));
    expect(differences(all, expected.tokenHashes, each)).toEqual(same);
  });

  test('texts of random ids, invalid UTF-8 among them', () => {
    const lists = sequences.map((numbers) => numbers.map((number) => number % expected.vocabSize));
    const hasByteTokens = JSON.stringify(json.decoder).includes('ByteFallback');
    const replaced = lists.map((list) =>
      hasByteTokens ? withoutBrokenRuns(tokenizer, list) : { tokens: list, broken: [] },
    );
    const texts = replaced.map(({ tokens }) => tokenizer.decode(tokens));
    expect(differences(lists, expected.randomDecodedHashes, texts)).toEqual(same);
    // A Unigram vocabulary has no bytes.
    if (family !== 'unigram') expect(texts.filter((text) => text.includes('\uFFFD')).length).toBeGreaterThan(90);

    // What we do with broken runs, of which all families with byte tokens have some.
    const broken = replaced.flatMap((list) => list.broken);
    expect(broken.length > 90).toBe(hasByteTokens);
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    const neighbour = tokenizer.encodeRendered('a');
    for (const run of broken) {
      const bytes = Uint8Array.from(run.flatMap((id) => byteFallbackBytes(tokenizer.tokenOf(id)!)!));
      expect(tokenizer.decode([...neighbour, ...run])).toBe(`a${decoder.decode(bytes)}`);
    }
  });
});

/** The same tokenizers as GGUF files have them. What the others do (`rstrip`, a blank only at the start) has no word there. */
describe.each([
  ['llama2', 'llama'],
  ['llama3', 'llama-bpe'],
  ['smollm2', 'smollm'],
  ['mistral_nemo', 'tekken'],
  ['qwen', 'qwen2'],
  ['olmo2', 'dbrx'],
])('%s in a GGUF file', (family, pre) => {
  const expected = read(`${family}/expected.json`) as Expected;
  const json = read(`${family}/tokenizer.json`);
  let fields = ggufTokenizerFields(json, pre, expected.vocabSize);
  if (pre === 'llama') fields = { ...fields, ...sentencePieceFields(json, fields) };
  const metadata = readMetadata(parseGgufHead(writeGguf(fields, []), true, 'x.gguf')!, 'x.gguf');
  const { tokenizerJson, tokenizerConfig, pieceRanks } = readGgufTokenizer(metadata);
  const tokenizer = createTokenizer(tokenizerJson, tokenizerConfig, 'x.gguf', pieceRanks);

  test('ids and texts', () => {
    const some = strings.slice(0, 700);
    const ids = some.map((text) => tokenizer.encodeRendered(text));
    const hashes = expected.bareIdHashes.split(' ').slice(0, some.length).join(' ');
    expect(
      differences(
        some,
        hashes,
        ids.map((list) => list.join()),
      ),
    ).toEqual(same);
    const texts = ids.map((list) => tokenizer.decode(list));
    const textHashes = expected.decodedHashes.split(' ').slice(0, some.length).join(' ');
    expect(differences(some, textHashes, texts)).toEqual(same);
  });
});

/** Scores that give the merges of the file: the earlier its merge, the higher a piece. */
function sentencePieceFields(json: { model: { merges: string[][] } }, fields: GgufFields): GgufFields {
  const tokens = fields['tokenizer.ggml.tokens']![1] as string[];
  const types = fields['tokenizer.ggml.token_type']![1] as number[];
  const ranks = new Map(json.model.merges.map(([left, right], rank) => [left! + right!, rank] as const).reverse());
  return {
    'tokenizer.ggml.model': ['string', 'llama'],
    'tokenizer.ggml.scores': ['f32s', tokens.map((token) => -(ranks.get(token) ?? 1e6))],
    'tokenizer.ggml.token_type': [
      'i32s',
      tokens.map((token, id) => (token === '<unk>' ? 2 : byteFallbackBytes(token) ? 6 : types[id]!)),
    ],
  };
}
