/** The option `draft` of `createEngine`: a model, a lookup, or nothing. */
import { InvalidOptionError } from './errors.ts';
import { isFileLocation, LOCATION_WORDS, locationOption, type ParsedLocation } from './model_options.ts';
import { readOptions } from './option_names.ts';
import { expected, type GivenOptions, integerOption, isPlainObject } from './option_values.ts';
import type { NgramDraft } from './types.ts';

/** Prompt lookup, complete: the last `shortest` to `longest` tokens are searched for. */
export type NgramOptions = { shortest: number; longest: number };

export const DEFAULT_NGRAM: NgramOptions = { shortest: 2, longest: 4 };
/** Compared tokens; the kernel counts them in eight bits. */
const MAX_MATCH = 64;

const MODEL_KEYS = ['model', 'headTokens'] as const;
const NGRAM_KEYS = ['method', 'minMatch', 'maxMatch'] as const;

export type ParsedDraft = {
  draft: ParsedLocation | null;
  ngram: NgramOptions | null;
  /** Of a draft model: ids that it may propose, the first of the vocabulary; null for all. */
  headTokens: number | null;
};

const NO_DRAFT: ParsedDraft = { draft: null, ngram: null, headTokens: null };

export function draftOption(options: GivenOptions): ParsedDraft {
  const given = options.get('draft') ?? null;
  if (given === null) return NO_DRAFT;
  if (typeof given !== 'object' || isFileLocation(given)) {
    const what = `${LOCATION_WORDS}, { model, headTokens }, { method: 'ngram' }, or null for plain decoding`;
    return { ...NO_DRAFT, draft: locationOption(options, 'draft', what) ?? null };
  }
  if (!isPlainObject(given)) {
    throw expected('draft', `${LOCATION_WORDS}, { model, headTokens }, { method: 'ngram' }, or null`, given);
  }
  const known = readOptions(given, 'draft', [...MODEL_KEYS, ...NGRAM_KEYS]);
  const [ofModel, ofLookup] = [MODEL_KEYS, NGRAM_KEYS].map((keys) => keys.find((key) => known.has(key)));
  if (ofModel === undefined) return { ...NO_DRAFT, ngram: ngramOption(known) };
  if (ofLookup === undefined) return { ...NO_DRAFT, ...modelOption(known) };
  throw new InvalidOptionError(
    `Expected \`draft\` to be a model or a lookup, got \`${ofModel}\` of the one and \`${ofLookup}\` of the other. Leave one out.`,
  );
}

function modelOption(given: GivenOptions): Pick<ParsedDraft, 'draft' | 'headTokens'> {
  // As the caller finds them: `model` alone says nothing of where it stood.
  const options = new Map([...given].map(([key, value]) => [`draft.${key}`, value]));
  const draft = locationOption(options, 'draft.model');
  if (draft === undefined) throw expected('draft.model', LOCATION_WORDS, undefined, 'Give it beside `headTokens`.');
  const remedy = 'It counts ids of the vocabulary; leave it out for all of them.';
  return { draft, headTokens: integerOption(options, 'draft.headTokens', { min: 1 }, remedy) ?? null };
}

function ngramOption(options: GivenOptions): NgramOptions {
  if (options.get('method') !== 'ngram') {
    throw expected(
      'draft.method',
      "'ngram'",
      options.get('method'),
      'A draft model is given by its URL or its files, alone or as `model`.',
    );
  }
  const shortest = integerOption(options, 'minMatch', { min: 1, max: MAX_MATCH }) ?? DEFAULT_NGRAM.shortest;
  const longest =
    integerOption(options, 'maxMatch', { min: 1, max: MAX_MATCH }) ?? Math.max(shortest, DEFAULT_NGRAM.longest);
  if (longest < shortest) {
    throw new InvalidOptionError(
      `Expected \`draft.maxMatch\` to be at least \`minMatch\` (${shortest}), got ${longest}. Raise it, or leave it out.`,
    );
  }
  return { shortest, longest };
}

/** The same option as a caller writes it, cloneable. */
export function toDraftOption({
  draft,
  ngram,
  headTokens,
}: ParsedDraft): ParsedLocation | { model: ParsedLocation; headTokens: number } | NgramDraft | null {
  if (ngram !== null) return { method: 'ngram', minMatch: ngram.shortest, maxMatch: ngram.longest };
  return draft === null || headTokens === null ? draft : { model: draft, headTokens };
}
