/** Which models the page can load, and how a choice stands in the URL. */
import type { EngineOptions, ModelLocation } from 'foretoken';

export type Pair = { id: string; name: string; target: string; draft: string; licence: string };

/** Folders are of this page, ids of the Hugging Face hub. */
export const pairs: readonly Pair[] = [
  {
    id: 'stories',
    name: 'stories-3m + stories-650k, part of this page',
    target: './models/stories-3m/',
    draft: './models/stories-650k/',
    licence: 'Apache-2.0',
  },
  {
    id: 'smollm2-1.7b',
    name: 'SmolLM2-1.7B-Instruct + 135M',
    target: 'HuggingFaceTB/SmolLM2-1.7B-Instruct',
    draft: 'HuggingFaceTB/SmolLM2-135M-Instruct',
    licence: 'Apache-2.0',
  },
  {
    id: 'smollm2-360m',
    name: 'SmolLM2-360M-Instruct + 135M',
    target: 'HuggingFaceTB/SmolLM2-360M-Instruct',
    draft: 'HuggingFaceTB/SmolLM2-135M-Instruct',
    licence: 'Apache-2.0',
  },
  {
    id: 'qwen2.5-1.5b',
    name: 'Qwen2.5-1.5B-Instruct + 0.5B',
    target: 'Qwen/Qwen2.5-1.5B-Instruct',
    draft: 'Qwen/Qwen2.5-0.5B-Instruct',
    licence: 'Apache-2.0',
  },
  {
    id: 'qwen3-1.7b',
    name: 'Qwen3-1.7B + 0.6B',
    target: 'Qwen/Qwen3-1.7B',
    draft: 'Qwen/Qwen3-0.6B',
    licence: 'Apache-2.0',
  },
];

const drafters = ['model', 'ngram', 'none'] as const;
const dtypes = ['f16', 'q8', 'q4'] as const;

/** `pair` is an id above, `own` (target and draft as typed) or `files` (chosen on this page, in no link). */
export type ModelChoice = {
  pair: string;
  target: string;
  draft: string;
  drafter: (typeof drafters)[number];
  dtype: (typeof dtypes)[number];
};

export const defaultChoice: ModelChoice = { pair: 'stories', target: '', draft: '', drafter: 'model', dtype: 'f16' };

export const pairOf = (choice: ModelChoice): Pair | undefined => pairs.find(({ id }) => id === choice.pair);

/** Anything unknown takes its default. */
export function parseChoice(search: string): ModelChoice {
  const params = new URLSearchParams(search);
  const target = params.get('target') ?? '';
  const pair = params.get('models') ?? '';
  const known = pairs.some(({ id }) => id === pair) || (pair === 'own' && target !== '');
  return {
    pair: known ? pair : defaultChoice.pair,
    target: pair === 'own' ? target : '',
    draft: pair === 'own' ? (params.get('draft') ?? '') : '',
    drafter: drafters.find((name) => name === params.get('drafter')) ?? defaultChoice.drafter,
    dtype: dtypes.find((name) => name === params.get('dtype')) ?? defaultChoice.dtype,
  };
}

/** Adds what is not the default. */
export function writeChoice(params: URLSearchParams, choice: ModelChoice): void {
  if (choice.pair === 'files') return;
  if (choice.pair !== defaultChoice.pair) params.set('models', choice.pair);
  if (choice.pair === 'own') {
    params.set('target', choice.target);
    if (choice.draft !== '') params.set('draft', choice.draft);
  }
  if (choice.drafter !== defaultChoice.drafter) params.set('drafter', choice.drafter);
  if (choice.dtype !== defaultChoice.dtype) params.set('dtype', choice.dtype);
}

export function sameChoice(a: ModelChoice, b: ModelChoice): boolean {
  return (Object.keys(a) as (keyof ModelChoice)[]).every((key) => a[key] === b[key]);
}

/** What `createEngine` and `checkModel` are asked for. */
export function engineOptions(choice: ModelChoice, files: readonly File[]): EngineOptions {
  const pair = pairOf(choice);
  const target: ModelLocation = choice.pair === 'files' ? files : (pair?.target ?? choice.target);
  const draftModel = pair?.draft ?? choice.draft;
  const draft =
    choice.drafter === 'ngram' ? ({ method: 'ngram' } as const) : choice.drafter === 'none' ? null : draftModel;
  return { target, draft: draft === '' ? null : draft, dtype: choice.dtype };
}
