/** How byte-level BPE cuts a text into words before it merges: the rules behind the names in `tokenizer.ggml.pre`. */
import { UnsupportedModelError } from '../errors.ts';

type Json = Record<string, unknown>;

export type PreTokenizer = {
  normalizer: Json | null;
  /** Steps before the text becomes bytes, as in tokenizer.json. */
  splits: Json[];
  /** A word that is a token is taken whole, whatever the merges make of it. */
  ignoresMerges: boolean;
};

export const split = (pattern: string): Json => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
});

export const gpt2Words = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const contractions = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
/** GPT-4's, with groups of up to `digits` digits. */
const gpt4Words = (digits: number) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,${digits}}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
const before = String.raw`[^\r\n\p{L}\p{N}]?`;
/** GPT-4o's, which cuts between small letters and capitals. */
const casedWords = (contraction: string, digits: number) =>
  `${before}${upper}*${lower}+${contraction}|${before}${upper}+${lower}*${contraction}` +
  String.raw`|\p{N}{1,${digits}}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

const plain = (...splits: Json[]): PreTokenizer => ({ normalizer: null, splits, ignoresMerges: false });

const rules: readonly { names: string; rule: PreTokenizer }[] = [
  { names: 'gpt-2 phi-2 olmo', rule: plain(split(gpt2Words)) },
  {
    names: 'smollm starcoder refact command-r',
    rule: plain({ type: 'Digits', individual_digits: true }, split(gpt2Words)),
  },
  { names: 'llama-bpe llama3 llama-v3 falcon3', rule: { ...plain(split(gpt4Words(3))), ignoresMerges: true } },
  { names: 'dbrx smaug-bpe', rule: plain(split(gpt4Words(3))) },
  { names: 'qwen2 deepseek-r1-qwen', rule: { ...plain(split(gpt4Words(1))), normalizer: { type: 'NFC' } } },
  { names: 'gpt-4o', rule: plain(split(casedWords(`(?:${contractions})?`, 3))) },
  { names: 'tekken', rule: { ...plain(split(casedWords('', 1))), ignoresMerges: true } },
  // Of files that do not say: what llama.cpp does with them.
  {
    names: 'default',
    rule: plain(
      split(String.raw`[\p{P}$+<=>^~|]+`),
      split(gpt2Words),
      split(String.raw`\p{N}+`),
      split('[0-9][0-9][0-9]'),
    ),
  },
];

export function preTokenizerOf(pre: string, file: string): PreTokenizer {
  const found = rules.find(({ names }) => names.split(' ').includes(pre));
  if (found !== undefined) return found.rule;
  const known = rules.map(({ names }) => names.replaceAll(' ', ', ')).join(', ');
  throw new UnsupportedModelError(
    `${file}: metadata tokenizer.ggml.pre ${JSON.stringify(pre.slice(0, 60))} is not supported, only ${known}. ` +
      'Use a model with another tokenizer.',
  );
}
