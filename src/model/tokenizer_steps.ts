/**
 * The steps of a tokenizer.json that the tokenizer library takes more narrowly than the reference implementation, put so
 * that both do the same. Their patterns are read as Unicode's classes, where the library's own code has JavaScript's.
 */
import { gpt2Words, split } from './pre_tokenizers.ts';

type Json = Record<string, unknown>;

const isRecord = (value: unknown): value is Json => typeof value === 'object' && value !== null;

export function widenPreTokenizer(step: unknown): unknown {
  if (!isRecord(step)) return step;
  if (step.type === 'Sequence' && Array.isArray(step.pretokenizers)) {
    return { ...step, pretokenizers: step.pretokenizers.map(widenPreTokenizer) };
  }
  // Digits of every script, and numbers like ½.
  if (step.type === 'Digits') return split(step.individual_digits === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
  // A blank in front of the text comes before the cut.
  if (step.type === 'ByteLevel' && step.use_regex !== false && step.add_prefix_space !== true) {
    return { type: 'Sequence', pretokenizers: [split(gpt2Words), { ...step, use_regex: false }] };
  }
  return step;
}

export function widenNormalizer(step: unknown): unknown {
  if (!isRecord(step)) return step;
  if (step.type === 'Sequence' && Array.isArray(step.normalizers)) {
    return { ...step, normalizers: step.normalizers.map(widenNormalizer) };
  }
  if (step.type !== 'Strip') return step;
  const cut = (pattern: string): Json => ({ type: 'Replace', pattern: { Regex: pattern }, content: '' });
  return {
    type: 'Sequence',
    normalizers: [
      ...(step.strip_left === true ? [cut(String.raw`\A\s+`)] : []),
      ...(step.strip_right === true ? [cut(String.raw`(?<!\s)\s+\z`)] : []),
    ],
  };
}

export type AddedToken = { content: string } & Json;

/** Tokens with `rstrip` take the white space behind them along. It leaves the text here, and the tokens lose the mark. */
export function takeOverStrips(added: readonly AddedToken[]): { added: AddedToken[]; strip: (text: string) => string } {
  const isTaken = ({ rstrip, normalized, special }: AddedToken) => rstrip === true && !(normalized ?? special !== true);
  const taken = new Set(added.filter(isTaken).map(({ content }) => content));
  if (taken.size === 0) return { added: [...added], strip: (text) => text };
  const escaped = added
    .map(({ content }) => content)
    .sort((a, b) => b.length - a.length)
    .map((content) => content.replace(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`));
  const pattern = new RegExp(String.raw`(${escaped.join('|')})(\p{White_Space}*)`, 'gu');
  return {
    added: added.map((token) => (isTaken(token) ? { ...token, rstrip: false } : token)),
    strip: (text) => text.replace(pattern, (all, token: string) => (taken.has(token) ? token : all)),
  };
}
