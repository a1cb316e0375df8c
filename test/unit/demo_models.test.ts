/** The demo's choice of models: what a link holds of it, and what the engine is asked for. */
import { describe, expect, it } from 'vitest';
import { defaultChoice, engineOptions, type ModelChoice, pairs, parseChoice } from '../../demo/models.ts';
import { defaultState, parseState, stateSearch } from '../../demo/state.ts';
import { parseEngineOptions } from '../../src/options.ts';

const own: ModelChoice = {
  pair: 'own',
  target: 'a/b@c',
  draft: 'https://d.test/e f.gguf',
  drafter: 'none',
  dtype: 'q4',
};

describe('the choice of models', () => {
  it('comes back from its link, beside the settings', () => {
    const choices = [
      ...pairs.map(({ id }): ModelChoice => ({ ...defaultChoice, pair: id, dtype: 'q8' })),
      { ...defaultChoice, drafter: 'ngram' } as const,
      own,
      { ...own, draft: '' },
    ];
    for (const choice of choices) {
      const search = stateSearch(defaultState, true, choice);
      expect(parseChoice(search)).toEqual(choice);
      expect(parseState(search)).toEqual({ state: defaultState, run: true });
    }
    expect(stateSearch(defaultState)).not.toMatch(/models|dtype|drafter/);
  });

  it('takes its defaults where a link is mistyped or names files', () => {
    expect(parseChoice('?models=files&dtype=q5&drafter=x')).toEqual(defaultChoice);
    expect(parseChoice('?models=own')).toEqual(defaultChoice);
    expect(parseChoice(stateSearch(defaultState, false, { ...own, pair: 'files' }))).toEqual(defaultChoice);
  });

  it('becomes options that the engine accepts', () => {
    const files = [new File(['GGUF'], 'x.gguf')];
    for (const { id, target, draft } of pairs) {
      const options = engineOptions({ ...defaultChoice, pair: id }, []);
      expect(parseEngineOptions(options)).toMatchObject({ target, draft, dtype: 'f16' });
    }
    expect(engineOptions({ ...own, drafter: 'model', draft: '' }, [])).toMatchObject({ target: 'a/b@c', draft: null });
    expect(engineOptions(own, [])).toMatchObject({ draft: null, dtype: 'q4' });
    const chosen = parseEngineOptions(engineOptions({ ...defaultChoice, pair: 'files', drafter: 'ngram' }, files));
    expect(chosen).toMatchObject({ target: files[0], draft: null, modelName: 'x' });
    expect(chosen.ngram).not.toBeNull();
  });
});
