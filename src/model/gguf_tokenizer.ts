/** The tokenizer in the metadata of a GGUF file, put as the tokenizer.json and tokenizer_config.json that it came from. */
import { ModelFormatError, UnsupportedModelError } from '../errors.ts';
import type { MetadataReader } from './gguf_metadata.ts';
import { preTokenizerOf } from './pre_tokenizers.ts';

type Json = Record<string, unknown>;

/** Types of tokens, by their number in the file. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;

/** Tokens that end a turn in one chat format or another; a file names only one of them as its end-of-sequence token. */
const endTokens = new Set(
  '<|eot_id|> <|eom_id|> <|im_end|> <|end|> <end_of_turn> <|endoftext|> <|end_of_text|>'.split(' '),
);

export type GgufTokenizer = {
  tokenizerJson: Json;
  tokenizerConfig: Json;
  /** See `createTokenizer`. Null for a tokenizer that lists its merges. */
  pieceRanks: ReadonlyMap<string, number> | null;
};

export function readGgufTokenizer(metadata: MetadataReader): GgufTokenizer {
  const { name } = metadata;
  const { tokens, types } = readTokens(metadata);
  const model = metadata.text('tokenizer.ggml.model');
  const parts =
    model === 'gpt2'
      ? byteLevelParts(metadata, tokens, types)
      : model === 'llama'
        ? sentencePieceParts(metadata, tokens, types)
        : null;
  if (parts === null) {
    throw new UnsupportedModelError(
      `${name}: metadata tokenizer.ggml.model ${JSON.stringify(model.slice(0, 60))} is not supported, only "gpt2" ` +
        '(byte-level BPE) and "llama" (SentencePiece BPE). Use a model with another tokenizer.',
    );
  }
  const isAdded = (type: number) => type === CONTROL || type === USER_DEFINED || type === UNKNOWN;
  const added = tokens
    .map((content, id) => ({
      id,
      content,
      special: types[id] !== USER_DEFINED,
      normalized: model === 'llama' && isBlanks(content) && !hasSpacePrefix(metadata),
    }))
    .filter(({ id, content }) => isAdded(types[id] as number) && content !== '');
  const token = (key: string): string | null => {
    if (!metadata.has(key)) return null;
    const id = metadata.number(key);
    const text = tokens[id];
    if (text !== undefined) return text;
    throw invalid(name, `metadata ${key} is ${id}, of ${tokens.length} tokens`);
  };
  const { pieceRanks, ...json } = parts;
  return {
    pieceRanks,
    tokenizerJson: { ...json, added_tokens: added },
    tokenizerConfig: {
      bos_token: token('tokenizer.ggml.bos_token_id'),
      eos_token: token('tokenizer.ggml.eos_token_id'),
      unk_token: token('tokenizer.ggml.unknown_token_id'),
      pad_token: token('tokenizer.ggml.padding_token_id'),
      // As llama.cpp does where the file does not say.
      add_bos_token: metadata.boolean(
        'tokenizer.ggml.add_bos_token',
        metadata.has('tokenizer.ggml.bos_token_id') && (model === 'llama' || parts.model.ignore_merges === true),
      ),
      chat_template: metadata.text('tokenizer.chat_template', '') || null,
    },
  };
}

/** The end-of-sequence tokens that the file names, and those that end a turn by the name they have. */
export function endTokenIds(metadata: MetadataReader): number[] {
  const named = ['eos', 'eot', 'eom']
    .map((end) => `tokenizer.ggml.${end}_token_id`)
    .filter((key) => metadata.has(key))
    .map((key) => metadata.number(key));
  const { tokens, types } = readTokens(metadata);
  const known = tokens.flatMap((token, id) => (types[id] === CONTROL && endTokens.has(token) ? [id] : []));
  return [...new Set([...named, ...known])];
}

function readTokens(metadata: MetadataReader): { tokens: string[]; types: ArrayLike<number> } {
  const tokens = metadata.texts('tokenizer.ggml.tokens');
  if (tokens === null) throw invalid(metadata.name, 'it has no tokenizer.ggml.tokens');
  const types = metadata.numbers('tokenizer.ggml.token_type') ?? new Uint8Array(tokens.length).fill(NORMAL);
  if (types.length !== tokens.length) {
    throw invalid(metadata.name, `it has ${types.length} token types for ${tokens.length} tokens`);
  }
  return { tokens, types };
}

/** Ids by token, of those that a text can be cut into. */
function vocabOf(name: string, tokens: readonly string[], types: ArrayLike<number>): Map<string, number> {
  const vocab = new Map<string, number>();
  tokens.forEach((token, id) => {
    if (types[id] === UNUSED || types[id] === CONTROL || types[id] === USER_DEFINED) return;
    if (vocab.has(token)) {
      throw invalid(name, `its tokens ${vocab.get(token)} and ${id} are both ${JSON.stringify(token.slice(0, 40))}`);
    }
    vocab.set(token, id);
  });
  return vocab;
}

const hasSpacePrefix = (metadata: MetadataReader) => metadata.boolean('tokenizer.ggml.add_space_prefix', true);
/** Such a token is looked for where every blank is written as ▁, so that a ▁ of the text counts as one. */
const isBlanks = (token: string) => /^[ ▁]+$/.test(token);

type Parts = { model: Json; pieceRanks: ReadonlyMap<string, number> | null } & Json;

function byteLevelParts(metadata: MetadataReader, tokens: readonly string[], types: ArrayLike<number>): Parts {
  const merges = metadata.texts('tokenizer.ggml.merges');
  if (merges === null) throw invalid(metadata.name, 'it has no tokenizer.ggml.merges');
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true };
  const { normalizer, splits, ignoresMerges } = preTokenizerOf(
    metadata.text('tokenizer.ggml.pre', 'default'),
    metadata.name,
  );
  return {
    pieceRanks: null,
    normalizer,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits, { ...byteLevel, use_regex: false }] },
    decoder: { ...byteLevel, use_regex: true },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(vocabOf(metadata.name, tokens, types)),
      // Spaces are written as another character, so that the first one parts the two.
      merges,
      ignore_merges: ignoresMerges,
    },
  };
}

function sentencePieceParts(metadata: MetadataReader, tokens: readonly string[], types: ArrayLike<number>): Parts {
  const scores = metadata.numbers('tokenizer.ggml.scores');
  if (scores?.length !== tokens.length) {
    throw invalid(metadata.name, `it has ${scores?.length ?? 0} token scores for ${tokens.length} tokens`);
  }
  const vocab = vocabOf(metadata.name, tokens, types);
  const hasPrefix = hasSpacePrefix(metadata);
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const decoders = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    ...(hasPrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
  ];
  const unknown = tokens.find((_, id) => types[id] === UNKNOWN);
  return {
    pieceRanks: ranksOf(
      [...vocab].filter(([, id]) => types[id] === NORMAL),
      scores,
    ),
    normalizer: hasPrefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] } : spaces,
    decoder: { type: 'Sequence', decoders },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(vocab),
      merges: [],
      byte_fallback: true,
      fuse_unk: true,
      unk_token: unknown ?? null,
    },
  };
}

/** 0 for the pieces of the highest score, 1 for those of the next. */
function ranksOf(pieces: [string, number][], scores: ArrayLike<number>): Map<string, number> {
  pieces.sort(([, a], [, b]) => (scores[b] as number) - (scores[a] as number));
  const ranks = new Map<string, number>();
  let rank = -1;
  let last: number | undefined;
  for (const [piece, id] of pieces) {
    if (scores[id] !== last) rank += 1;
    last = scores[id];
    ranks.set(piece, rank);
  }
  return ranks;
}

function invalid(name: string, fault: string): ModelFormatError {
  return new ModelFormatError(`${name} has no valid tokenizer: ${fault}. Download or convert the file again.`);
}
