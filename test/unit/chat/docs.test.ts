/** The blocks of docs/chat.md, run one after another against the client and a worker without a GPU. */
import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { createEngine } from '../../../src/client.ts';
import { readSections } from '../../consumers/doc_projects.mjs';
import { fakeWorker, newLog } from '../client/fixtures.ts';

const markdown = readFileSync(new URL('../../../docs/chat.md', import.meta.url), 'utf8');

test('every block of docs/chat.md runs', async () => {
  const blocks = [...readSections(markdown).values()].flat();
  expect(blocks.length).toBe((markdown.match(/^```/gm)?.length ?? 0) / 2);
  expect(blocks.map(({ language }) => language)).toEqual(blocks.map(() => 'ts'));
  const code = blocks.map(({ text }) => text.replace(/^import .*'foretoken';$/gm, '')).join('\n');
  const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
  const { outputText } = ts.transpileModule(code, { compilerOptions: options });

  const printed: unknown[][] = [];
  const log = newLog();
  const makeEngine = (given: object) => {
    const target = 'http://models.test/target/';
    return createEngine({ ...given, target, draft: null, worker: () => fakeWorker(log) });
  };
  const asyncFunction = (async () => {}).constructor as new (
    ...args: string[]
  ) => (...args: unknown[]) => Promise<void>;
  const run = new asyncFunction('createEngine', 'console', `${outputText}\nawait engine.dispose();`);
  await run(makeEngine, { log: (...words: unknown[]) => void printed.push(words) });

  const [first, ...rest] = printed;
  expect(first?.[1]).toBe(50);
  expect(first?.[0]).toMatch(/^t200 t201 /);
  // The role, 256 rounds, the end, and the line of the usage.
  expect(rest.slice(0, 3).map(([text]) => text)).toEqual(['', 't100 ', 't101 ']);
  expect(rest.slice(0, -1)).toHaveLength(1 + 256 + 1 + 1 + 1);
  expect(rest.at(-1)?.[0]).toMatch(/^user: Hello\nassistant: t100 .*\nuser: And now\?\n$/);
});
