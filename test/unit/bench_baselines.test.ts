/** What `npm run bench -- --baselines` makes of its samples. */
import { expect, test } from 'vitest';
import { askedOf, baselinesMarkdown, rowsOf } from '../bench/baselines_report.ts';

const speeds = (name: string, byPrompt: Record<string, number[]>) =>
  Object.entries(byPrompt).flatMap(([prompt, list]) =>
    list.map((tokensPerSecond, repeat) => ({ name, prompt, repeat, tokensPerSecond })),
  );
const plain = 'transformers.js, WebGPU, plain fp32 export';
const wasm = 'transformers.js, WASM, 1 thread, plain fp32 export';
const fasterWasm = 'transformers.js, WASM, 2 threads, plain fp32 export';
const refused = 'transformers.js, WebGPU, fused fp16 export';
const samples = [
  // The second prompt is timed while the machine is busy: ours and theirs are half as fast.
  ...speeds('foretoken, k = 0', { a: [30, 33, 30], b: [15, 15, 15] }),
  ...speeds(plain, { a: [3, 3, 2], b: [1.5, 1.5, 1.5] }),
  ...speeds(wasm, { a: [60, 60, 60], b: [30, 30, 30] }),
  ...speeds(fasterWasm, { a: [90, 90, 90], b: [75, 75, 75] }),
];
const names = ['foretoken, k = 0', plain, wasm, fasterWasm, refused];
const rows = rowsOf(names, samples, { [refused]: 'another text | than ours' });

test('speeds are medians; ratios are those within one prompt and repeat', () => {
  expect(rows[0]).toMatchObject({ tokensPerSecond: 22.5, ours: 1, problem: null });
  expect(rows[0]!.spread).toBeCloseTo(7.5 / 22.5, 12);
  expect(rows[1]).toMatchObject({ tokensPerSecond: 1.75, ours: 10 });
  expect(rows[2]).toMatchObject({ tokensPerSecond: 45, ours: 0.5 });
  expect(rows[4]).toEqual({
    name: refused,
    tokensPerSecond: null,
    spread: null,
    ours: null,
    problem: 'another text | than ours',
  });
  expect(rowsOf(['x'], [], {})[0]!.problem).toBe('not run');
});

test('what was asked is measured against the fastest row of its kind', () => {
  expect(askedOf(rows)).toMatchObject([
    { ratio: 10, measured: 10, row: plain },
    { ratio: 3, measured: null, row: null },
    { ratio: 0.8, measured: (15 / 75 + 30 / 90) / 2, row: fasterWasm },
  ]);
});

test('the table shows no time without an equal text, and what was not reached', () => {
  const markdown = baselinesMarkdown({
    date: '2026-01-01',
    userAgent: 'a browser',
    adapter: { vendor: 'acme', architecture: '', device: '', description: '' },
    cores: 2,
    loadAverages: [0.5, 2],
    versions: { x: '1.2.3' },
    prompts: ['a', 'b'],
    maxNewTokens: 8,
    repeatCount: 3,
    rows,
    asked: askedOf(rows),
    samples,
  });
  expect(markdown).toContain(`| ${plain} | 1.8 | 14.3 % | 10.0× | equal |`);
  expect(markdown).toContain(String.raw`| ${refused} | – | – | – | no time: another text \| than ours |`);
  expect(markdown).toContain('plain fp32 export | ≥ 10× | 10.0× | reached |');
  expect(markdown).toContain('best fused export | ≥ 3× | – | not measured | – |');
  expect(markdown).toContain(`its best | ≥ 0.8× | 0.267× | not reached | ${fasterWasm} |`);
  expect(markdown).toContain('x 1.2.3');
});
