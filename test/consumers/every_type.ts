/** Compiled in a consumer's project: every entry point has types, and they are the ones that the documentation promises. */
import type { Engine, GenerateRun, Round } from 'foretoken';
import * as main from 'foretoken';
import * as direct from 'foretoken/engine';
import 'foretoken/worker';

export async function useEveryEntry(prompt: readonly number[]): Promise<string> {
  const engines: Engine[] = [await main.createEngine({ target: '/a/' }), await direct.createEngine({ target: '/a/' })];
  const rounds: Round[] = [];
  for (const engine of engines) {
    const run: GenerateRun = engine.generate(prompt, { draftLength: 0 });
    for await (const round of run) rounds.push(round);
    // @ts-expect-error A misspelled option is an error of the compiler, too.
    engine.generate('x', { max_new_tokens: 3 });
  }
  const kept: main.CachedFile[] = await main.modelCache.list();
  const check: main.ModelCheck = await main.checkModel({ target: new Blob() });
  if (!check.fits)
    throw new Error(check.problems.map(({ code }) => code).join() + (await direct.checkModel({ target: '/a/' })).fits);
  const error: unknown = new main.ModelFetchError('x');
  return main.isForetokenError(error) ? `${error.name} ${rounds.map(({ text }) => text).join('')} ${kept.length}` : '';
}
