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

export type ParsedDraft = { draft: ParsedLocation | null; ngram: NgramOptions | null };

export function draftOption(options: GivenOptions): ParsedDraft {
  const given = options.get('draft') ?? null;
  if (given === null) return { draft: null, ngram: null };
  if (typeof given !== 'object' || isFileLocation(given)) {
    const what = `${LOCATION_WORDS}, { method: 'ngram' }, or null for plain decoding`;
    return { draft: locationOption(options, 'draft', what) ?? null, ngram: null };
  }
  return { draft: null, ngram: ngramOption(given) };
}

function ngramOption(given: object): NgramOptions {
  if (!isPlainObject(given)) {
    throw expected('draft', `${LOCATION_WORDS}, { method: 'ngram' }, or null`, given);
  }
  const options = readOptions(given, 'draft', ['method', 'minMatch', 'maxMatch']);
  if (options.get('method') !== 'ngram') {
    throw expected(
      'draft.method',
      "'ngram'",
      options.get('method'),
      'A draft model is given by its URL or its files alone.',
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
export function toDraftOption({ draft, ngram }: ParsedDraft): ParsedLocation | NgramDraft | null {
  return ngram === null ? draft : { method: 'ngram', minMatch: ngram.shortest, maxMatch: ngram.longest };
}
