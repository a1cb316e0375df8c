import { BPE, ByteFallbackDecoder, Tokenizer as HubTokenizer, SequenceDecoder } from '@huggingface/tokenizers';
import { InvalidOptionError, ModelFormatError, UnsupportedModelError } from '../errors.ts';
import type { TokenizerLike } from '../types.ts';
import { createTextStream, type TextStream } from './text_stream.ts';
import { byteFallbackBytes, byteLevelBytes, createPieceReader, type TokenPiece } from './token_pieces.ts';
import { type AddedToken, takeOverStrips, widenNormalizer, widenPreTokenizer } from './tokenizer_steps.ts';

export type { TextStream } from './text_stream.ts';

export type Tokenizer = {
  /** Highest token id + 1, added tokens included. The model's own vocab_size may be larger (padding). */
  vocabSize: number;
  /** The same without added tokens: these ids must have a row in the model's embedding. */
  baseVocabSize: number;
  /** False for a tokenizer object of which only `encode` and `decode` are known: then `idOf` and `tokenOf` know nothing. */
  hasTable: boolean;
  /** With the model's rule for the beginning-of-sequence token (BOS), and never with two of them. */
  encode(text: string): number[];
  /** For the text of a chat template, which writes its special tokens itself: nothing is added. */
  encodeRendered(text: string): number[];
  /** Special tokens and ids without a token are skipped, as in the reference implementation. Never "cleans up" spaces. */
  decode(tokens: readonly number[]): string;
  idOf(token: string): number | undefined;
  /** The vocabulary entry as it is written in the file, e.g. `Ġthe`. */
  tokenOf(id: number): string | undefined;
  /** Text of one token alone, special tokens included; empty for an id without a token. */
  textOf(id: number): string;
  /** One token as it stands inside a text. */
  pieceOf(id: number): TokenPiece;
  createTextStream(): TextStream;
};

const MAX_TOKEN_ID = 2 ** 22;

type Json = Record<string, unknown>;

/**
 * From the parsed `tokenizer.json` and, where there is one, `tokenizer_config.json`. `name` is for errors. `pieceRanks`
 * stand for the merges of a BPE model: of all neighbours the two whose whole has the lowest rank merge.
 */
export function createTokenizer(
  tokenizerJson: unknown,
  tokenizerConfig: unknown | null,
  name: string,
  pieceRanks: ReadonlyMap<string, number> | null = null,
): Tokenizer {
  const fail = (fault: string): never => {
    throw new ModelFormatError(`${name} is not a valid tokenizer: ${fault}. Use the files that came with the model.`);
  };
  const checked = checkTokenizerJson(tokenizerJson, name, fail);
  const config = readTokenizerConfig(tokenizerConfig, fail);
  const hub = openLibrary(checked.json, config.forHub, pieceRanks, name, fail);

  const { table, specialIds } = checked;
  // The hub library also takes these as special, by their text.
  table.forEach((token, id) => {
    if (config.extraSpecialTokens.has(token)) specialIds.add(id);
  });

  const isSilent = (id: number) => !table[id] || specialIds.has(id);
  const decode = (tokens: readonly number[]) => {
    const audible = tokens.filter((id) => !isSilent(id));
    // The library throws on an empty list.
    if (audible.length === 0) return '';
    return hub.decode(audible, true);
  };
  const decodeAll = (tokens: readonly number[]) => {
    const known = tokens.filter((id) => table[id]);
    return known.length === 0 ? '' : hub.decode(known, false);
  };
  const isByteLevel = hasByteLevelDecoder(checked.json.decoder);
  const bytesOf = (id: number) => byteFallbackBytes(table[id]!) ?? (isByteLevel ? byteLevelBytes(table[id]!) : null);
  return {
    vocabSize: table.length,
    baseVocabSize: checked.baseVocabSize,
    hasTable: true,
    encode: createEncoder(hub, config, fail),
    encodeRendered: (text) => hub.encode(text, false).filter((id) => id !== undefined),
    decode,
    idOf: (token) => hub.idOf(token),
    tokenOf: (id) => table[id],
    textOf: (id) => decodeAll([id]),
    pieceOf: createPieceReader(decodeAll, hub.encode('a', false).at(-1), bytesOf),
    createTextStream: () => createTextStream(decode, isSilent),
  };
}

/** For a tokenizer object that the caller brings. It has its own rule for BOS. `vocabSize` is the model's. */
export function wrapTokenizer(tokenizer: TokenizerLike, vocabSize: number): Tokenizer {
  // Tokenizers of transformers.js are callable, so their type is "function".
  if (typeof tokenizer?.encode !== 'function' || typeof tokenizer.decode !== 'function') {
    throw new InvalidOptionError(
      'Expected `tokenizer` to have the methods encode(text) and decode(ids, options), as those of transformers.js do, ' +
        `got ${tokenizer === null ? 'null' : typeof tokenizer}.`,
    );
  }
  const decodeWith = (tokens: readonly number[], skipSpecialTokens: boolean) => {
    if (tokens.length === 0) return '';
    return tokenizer.decode([...tokens], {
      skip_special_tokens: skipSpecialTokens,
      clean_up_tokenization_spaces: false,
    });
  };
  const decode = (tokens: readonly number[]) => decodeWith(tokens, true);
  const decodeAll = (tokens: readonly number[]) => decodeWith(tokens, false);
  let pieceOf: ReturnType<typeof createPieceReader> | undefined; // made when it is needed: it tries the tokenizer out
  const silence = new Map<number, boolean>();
  const isSilent = (id: number) => {
    let silent = silence.get(id);
    if (silent === undefined) {
      silent = decode([id]) === '' && decodeWith([id], false) !== '';
      silence.set(id, silent);
    }
    return silent;
  };
  const checkIds = (ids: unknown): number[] => {
    if (!Array.isArray(ids) || !ids.every((id) => Number.isSafeInteger(id) && id >= 0 && id < vocabSize)) {
      throw new InvalidOptionError(
        `Expected tokenizer.encode(text) to return an array of ids from 0 to ${vocabSize - 1}, got ` +
          `${typeof ids} ${String(ids).slice(0, 80)}. Pass the tokenizer that belongs to the model.`,
      );
    }
    return ids as number[];
  };
  const encodeRendered = (text: string) => checkIds(tokenizer.encode(text, { add_special_tokens: false }));
  return {
    vocabSize,
    baseVocabSize: vocabSize,
    hasTable: false,
    encode: (text) => checkIds(tokenizer.encode(text)),
    encodeRendered,
    decode,
    idOf: () => undefined,
    tokenOf: () => undefined,
    textOf: (id) => decodeWith([id], false),
    pieceOf(id) {
      pieceOf ??= createPieceReader(decodeAll, encodeRendered('a').at(-1), () => null);
      return pieceOf(id);
    },
    createTextStream: () => createTextStream(decode, isSilent),
  };
}

/**
 * BOS as in the reference implementation: an explicit `add_bos_token` decides, otherwise the post-processor of
 * tokenizer.json. A text that begins with BOS itself (a rendered chat template does) gets no second one.
 */
function createEncoder(hub: Library, config: TokenizerConfig, fail: (fault: string) => never) {
  const probe = hub.encode('a', true);
  const bare = hub.encode('a', false);
  if (probe.includes(undefined)) fail('its post_processor adds a token that is not in the vocabulary');
  // What the post-processor puts in front of a text. An unknown probe text leaves `bare` empty, and the same holds.
  const lead = probe.length > bare.length && probe[0] !== bare[0] ? probe[0] : undefined;

  let bos = lead;
  if (config.bosToken !== null) {
    const id = hub.idOf(config.bosToken);
    if (id === undefined && config.addBos)
      fail(`its bos_token ${JSON.stringify(config.bosToken)} is not in the vocabulary`);
    bos = id ?? lead;
  } else if (config.addBos && lead === undefined) {
    fail('tokenizer_config.json asks for add_bos_token and names no bos_token');
  }
  const leadIsBos = lead !== undefined && lead === bos;
  const wantsBos = bos !== undefined && (config.addBos ?? leadIsBos);

  return (text: string): number[] => {
    const ids = hub.encode(text, true).filter((id) => id !== undefined);
    const body = leadIsBos ? ids.slice(1) : ids;
    return wantsBos && body[0] !== bos ? [bos as number, ...body] : body;
  };
}

/** `ByteLevel`, alone or in a sequence: tokens are then written in characters that stand for bytes. */
function hasByteLevelDecoder(decoder: unknown): boolean {
  if (!isRecord(decoder)) return false;
  if (decoder.type === 'ByteLevel') return true;
  return Array.isArray(decoder.decoders) && decoder.decoders.some(hasByteLevelDecoder);
}

type Library = {
  /** A character without a token (no unk_token, no byte fallback) has no id. */
  encode(text: string, addSpecialTokens: boolean): (number | undefined)[];
  decode(tokens: number[], skipSpecialTokens: boolean): string;
  idOf(token: string): number | undefined;
};

function openLibrary(
  json: Json,
  config: Json,
  pieceRanks: ReadonlyMap<string, number> | null,
  name: string,
  fail: (fault: string) => never,
): Library {
  try {
    const { added, strip } = takeOverStrips(json.added_tokens as AddedToken[]);
    const steps = {
      normalizer: widenNormalizer(json.normalizer),
      pre_tokenizer: widenPreTokenizer(json.pre_tokenizer),
    };
    const hub = new HubTokenizer({ ...json, ...steps, added_tokens: added }, config);
    keepByteOrderMarks(hub.decoder);
    if (pieceRanks !== null) mergeByPiece(hub.model, pieceRanks);
    // Some faults of the file only show when it is used.
    hub.encode('a b', {});
    return {
      // The library's types do not say that a token may be unknown.
      encode: (text, addSpecialTokens) => hub.encode(strip(text), { add_special_tokens: addSpecialTokens }).ids,
      decode: (tokens, skipSpecialTokens) =>
        hub.decode(tokens, { skip_special_tokens: skipSpecialTokens, clean_up_tokenization_spaces: false }),
      idOf: (token) => hub.token_to_id(token),
    };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (/^Unknown \w+ type/.test(message)) {
      throw new UnsupportedModelError(
        `${name}: ${message}, which is not supported. Use a model with another tokenizer.`,
      );
    }
    return fail(message);
  }
}

/** The library looks up pairs, as JSON. To list all pairs that make a piece takes seconds with Gemma's vocabulary. */
function mergeByPiece(model: unknown, ranks: ReadonlyMap<string, number>): void {
  if (!(model instanceof BPE)) return;
  model.bpe_ranks.get = (pair) => ranks.get((JSON.parse(pair) as string[]).join(''));
}

/** Bytes that make U+FEFF are a character like others, also where a run of byte tokens begins with them. */
function keepByteOrderMarks(decoder: unknown): void {
  if (decoder instanceof ByteFallbackDecoder) decoder.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  if (decoder instanceof SequenceDecoder) decoder.decoders.forEach(keepByteOrderMarks);
}

type TokenizerConfig = {
  addBos: boolean | null;
  bosToken: string | null;
  extraSpecialTokens: ReadonlySet<string>;
  /** The entries that the library reads, in the types that it expects. */
  forHub: Json;
};

function readTokenizerConfig(json: unknown, fail: (fault: string) => never): TokenizerConfig {
  if (json === null || json === undefined) {
    return { addBos: null, bosToken: null, extraSpecialTokens: new Set(), forHub: {} };
  }
  if (!isRecord(json)) return fail('tokenizer_config.json is not a JSON object');
  const addBos = json.add_bos_token ?? null;
  if (addBos !== null && typeof addBos !== 'boolean') {
    return fail('add_bos_token of tokenizer_config.json is neither true nor false');
  }
  const extra = json.additional_special_tokens ?? [];
  const extraSpecialTokens = (Array.isArray(extra) ? extra : []).map(tokenText).filter((token) => token !== null);
  const forHub: Json = { additional_special_tokens: extraSpecialTokens };
  for (const key of ['bos_token', 'eos_token', 'unk_token', 'pad_token']) {
    const token = tokenText(json[key]);
    if (token !== null) forHub[key] = token;
  }
  for (const key of ['remove_space', 'do_lowercase_and_remove_accent']) {
    if (typeof json[key] === 'boolean') forHub[key] = json[key];
  }
  return { addBos, bosToken: tokenText(json.bos_token), extraSpecialTokens: new Set(extraSpecialTokens), forHub };
}

/** Tokens are written as strings or as objects with a `content`. */
function tokenText(value: unknown): string | null {
  const text = isRecord(value) ? value.content : value;
  return typeof text === 'string' && text !== '' ? text : null;
}

type CheckedTokenizer = { json: Json; table: string[]; baseVocabSize: number; specialIds: Set<number> };

/** The library trusts its input, so the parts that it indexes by are checked before. `table[id]` is '' for a hole. */
function checkTokenizerJson(json: unknown, name: string, fail: (fault: string) => never): CheckedTokenizer {
  if (!isRecord(json)) return fail('expected a JSON object');
  const { model, added_tokens: added = [] } = json;
  if (!isRecord(model)) return fail('it has no model');
  const type = model.type ?? (Array.isArray(model.merges) ? 'BPE' : undefined);
  if (type !== 'BPE' && type !== 'Unigram' && type !== 'WordPiece') {
    throw new UnsupportedModelError(
      `${name}: tokenizer model type ${String(JSON.stringify(type)).slice(0, 40)} is not supported, ` +
        'only BPE, Unigram and WordPiece. Use a model with another tokenizer.',
    );
  }
  if (type === 'Unigram' && model.byte_fallback === true) {
    throw new UnsupportedModelError(
      `${name}: a Unigram tokenizer with byte_fallback is not supported. Use a model with another tokenizer.`,
    );
  }
  const ids = readVocab(model.vocab, type, fail);
  if (type === 'BPE') checkMerges(model, ids, fail);

  const table: string[] = [];
  for (const [token, id] of ids) setEntry(table, id, token);
  const baseVocabSize = table.length;
  if (baseVocabSize === 0) fail('its vocabulary is empty');
  if (!Array.isArray(added)) return fail('added_tokens is not a list');
  const specialIds = new Set<number>();
  for (const token of added) {
    if (!isRecord(token) || !isTokenId(token.id) || typeof token.content !== 'string' || token.content === '') {
      return fail(`added_tokens has an entry without a valid id and content: ${JSON.stringify(token)?.slice(0, 80)}`);
    }
    setEntry(table, token.id, token.content);
    if (token.special === true) specialIds.add(token.id);
  }
  // Absent parts and null mean the same, but the library insists on the keys.
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  return {
    json: { ...parts, ...json, model: { ...model, type }, added_tokens: added },
    table,
    baseVocabSize,
    specialIds,
  };
}

function readVocab(vocab: unknown, type: string, fail: (fault: string) => never): Map<string, number> {
  if (type === 'Unigram') {
    if (
      !Array.isArray(vocab) ||
      !vocab.every((p) => Array.isArray(p) && typeof p[0] === 'string' && Number.isFinite(p[1]))
    ) {
      return fail('its vocab is not a list of [token, score] pairs');
    }
    return new Map((vocab as [string, number][]).map(([token], id) => [token, id]));
  }
  if (!isRecord(vocab)) return fail('its vocab is not an object of token ids');
  // Twice as fast as by `Object.entries`.
  const ids = new Map(Object.keys(vocab).map((token) => [token, vocab[token] as number]));
  const seen = new Set<number>();
  for (const [token, id] of ids) {
    if (!isTokenId(id)) {
      fail(
        `the id of token ${JSON.stringify(token.slice(0, 40))} is ${JSON.stringify(id)}, expected 0 to ${MAX_TOKEN_ID - 1}`,
      );
    }
    if (seen.has(id)) fail(`the id ${id} is given to two tokens, one of them ${JSON.stringify(token.slice(0, 40))}`);
    seen.add(id);
  }
  return ids;
}

function checkMerges(model: Json, ids: ReadonlyMap<string, number>, fail: (fault: string) => never): void {
  const { merges } = model;
  if (!Array.isArray(merges)) throw fail('its merges are not a list');
  // With a prefix or suffix the parts are not spelled as their tokens.
  const spelledOut = !model.continuing_subword_prefix && !model.continuing_subword_suffix && !model.end_of_word_suffix;
  for (const merge of merges) {
    const parts: unknown = typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(parts) || parts.length !== 2 || parts.some((part) => typeof part !== 'string')) {
      throw fail(`its merges have an entry that is no pair: ${String(JSON.stringify(merge)).slice(0, 80)}`);
    }
    const [left, right] = parts as [string, string];
    if (spelledOut && !(ids.has(left) && ids.has(right) && ids.has(left + right))) {
      throw fail(`the merge of ${JSON.stringify(left)} and ${JSON.stringify(right)} has no token in its vocab`);
    }
  }
}

/** Keeps the array dense, so that a hole is '' and ids in any order are cheap. */
function setEntry(table: string[], id: number, token: string): void {
  while (table.length < id) table.push('');
  table[id] = token;
}

const isTokenId = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < MAX_TOKEN_ID;
const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
