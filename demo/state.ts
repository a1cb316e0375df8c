import { defaultChoice, type ModelChoice, writeChoice } from './models.ts';

/** What a permalink holds. Everything else on the page follows from it. */
export type DemoState = {
  prompt: string;
  /** Of the race, and of the story unless `auto`. */
  draftLength: number;
  /** The engine chooses k for the story, round by round. */
  auto: boolean;
  maxNewTokens: number;
};

/** k of the story, as `generate` takes it. */
export const storyDraftLength = ({ draftLength, auto }: DemoState): number | 'auto' => (auto ? 'auto' : draftLength);

export const defaultState: DemoState = {
  prompt: 'Once upon a time, there was a little girl named Lily.',
  draftLength: 3,
  auto: false,
  maxNewTokens: 200,
};

export const maxDraftLength = 7;
export const largestMaxNewTokens = 1000;

/** Reads the query string. Anything missing or out of range takes its default: a mistyped link still opens a working page. */
export function parseState(search: string): { state: DemoState; run: boolean } {
  const params = new URLSearchParams(search);
  const prompt = params.get('prompt');
  return {
    state: {
      prompt: prompt === null || prompt.trim() === '' ? defaultState.prompt : prompt,
      draftLength: integerWithin(params.get('k'), 0, maxDraftLength) ?? defaultState.draftLength,
      auto: params.get('auto') === '1',
      maxNewTokens: integerWithin(params.get('maxNewTokens'), 1, largestMaxNewTokens) ?? defaultState.maxNewTokens,
    },
    run: params.get('run') === '1',
  };
}

/** The query string of a state, `?` included. Prompt, k and tokens are always written, so a link outlives a change of the defaults. */
export function stateSearch(state: DemoState, run = false, choice: ModelChoice = defaultChoice): string {
  const params = new URLSearchParams({
    prompt: state.prompt,
    k: String(state.draftLength),
    maxNewTokens: String(state.maxNewTokens),
  });
  if (state.auto) params.set('auto', '1');
  if (run) params.set('run', '1');
  writeChoice(params, choice);
  return `?${params}`;
}

export function sameState(a: DemoState, b: DemoState): boolean {
  return stateSearch(a) === stateSearch(b);
}

export function integerWithin(text: string | null, min: number, max: number): number | null {
  if (text === null || !/^\d{1,9}$/.test(text)) return null;
  const value = Number(text);
  return value >= min && value <= max ? value : null;
}
