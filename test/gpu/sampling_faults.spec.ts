/** Planted faults in sampling: the statistics of sampling.spec.ts find each. */
import { describe, expect, it } from 'vitest';
import { significance } from '../reference/g_test.ts';
import { noWarping } from '../reference/warp.ts';
import { examine, type Relation, simulationOf } from './sampling_grid.ts';
import type { Simulation } from './sampling_rounds.ts';

const sequenceCount = 3000;
const vocabSize = 64;

/** One draft, top-k 20 of 64. */
const randomTables = (mode: Simulation['mode'], relation: Relation): Simulation =>
  simulationOf({ mode, relation, vocabSize, k: 1, temperature: 0.8, topK: 20, topP: 1, minP: 0, sequenceCount });

/** One draft; probabilities of tokens 0, 1 and 2, next to which the others are nothing. */
function threeTokens(target: readonly number[], draft: readonly number[]): Simulation {
  const rowOf = (chances: readonly number[]) =>
    Float64Array.from({ length: vocabSize }, (_, id) => Math.fround(id < 3 ? Math.log(chances[id]!) : -40));
  return {
    ...randomTables('rejection', 'near'),
    target: [rowOf(target), rowOf(target)],
    draft: [rowOf(draft)],
    options: noWarping,
  };
}

const near = randomTables('rejection', 'near');
const far = randomTables('rejection', 'far');
const coupled = randomTables('coupled', 'equal');
/** What the draft keeps of it, and the target, are mostly not the same tokens. */
const narrow = { ...near, options: { ...near.options, topK: 5 } };
/** Token 0 is drafted often, and refused often. */
const overrated = threeTokens([0.15, 0.5, 0.35], [0.6, 0.2, 0.2]);
/** Token 1 is refused often; then token 0, which nearly was drafted, competes with token 2, which never is. */
const runnerUp = { ...threeTokens([0.55, 0.1, 0.35], [0.45, 0.5, 0.05]), sequenceCount: 6000 };
/** Token 1 is refused only by high numbers; then token 0 competes. */
const seldomRefused = threeTokens([0.42, 0.45, 0.13], [0.35, 0.6, 0.05]);

describe('without a fault', () => {
  it.each(Object.entries({ near, far, narrow, coupled, overrated, runnerUp, seldomRefused }))(
    'all is well: %s',
    async (_, simulation) => {
      const { pValues, differing } = await examine(simulation);
      for (const [name, pValue] of Object.entries(pValues)) expect(pValue, name).toBeGreaterThan(significance);
      expect(differing).toBe(0);
    },
  );
});

type Where = NonNullable<Simulation['fault']>['where'];
type Fault = [name: string, simulation: Simulation, where: Where, kernel: string, from: string, to: string];

const plant = ([, simulation, where, kernel, from, to]: Fault): Simulation => ({
  ...simulation,
  fault: { where, rewrite: (label, code) => (label.startsWith(kernel) ? code.replace(from, to) : code) },
});

const accepting = 'return u * inDraft < inTarget;';
const acceptNoise = 'state[slot].length + index, ACCEPT, 0u)';
const residualNoise = 'const RESIDUAL = 3u;';
const scaling = 'value *= state[slot].inverseTemperature;';
const drawnPosition = 'rows.row[t].position + 1u';

/** Wrong tokens: the G-test of the committed ones finds them. */
const distributionFaults: Fault[] = [
  ['accept always', near, 'verdict', 'reject', accepting, 'return u >= 0.0;'],
  ['accept by the ratio upside down', near, 'verdict', 'reject', accepting, 'return u * inTarget < inDraft;'],
  ['the target for its residual', near, 'verdict', 'residual', 'if (wasRefused && ', 'if (false && '],
  [
    'a residual of p_target where it is larger',
    near,
    'verdict',
    'residual',
    'log(inTarget - inDraft)',
    'log(inTarget)',
  ],
  ['the target alone not warped', near, 'target', 'warp', scaling, ''],
  ['the target alone without top-k', near, 'target', 'threshold', 'if (topK > 0u) {', 'if (topK > 99u) {'],
  ['a draft drawn without top-k', narrow, 'draft', 'sample', '&& logit >= threshold', ''],
  [
    'the draft’s noise in the accept test',
    near,
    'verdict',
    'reject',
    acceptNoise,
    'state[slot].length + index, DRAFT, draft)',
  ],
  [
    'the draft’s purpose in the accept test',
    overrated,
    'verdict',
    'reject',
    'const ACCEPT = 2u;',
    'const ACCEPT = 1u;',
  ],
  ['the draft’s purpose in the residual', runnerUp, 'verdict', 'residual', residualNoise, 'const RESIDUAL = 1u;'],
  ['the accept purpose in the residual', seldomRefused, 'verdict', 'residual', residualNoise, 'const RESIDUAL = 2u;'],
];

it.each(distributionFaults)('finds: %s', async (...fault) => {
  const { pValues } = await examine(plant(fault));
  expect(pValues['token 1']).toBeLessThan(significance);
});

/** Right tokens, but drafts are not accepted as often as they could be. */
const acceptanceFaults: Fault[] = [
  ['the draft alone one position on', coupled, 'draft', 'sample', drawnPosition, 'rows.row[t].position + 2u'],
  ['the draft’s noise not shared', coupled, 'draft', 'sample', 'purpose, token));', 'DRAFT, token));'],
  ['the draft alone not warped', coupled, 'draft', 'warp', scaling, ''],
  [
    'the accept test a little too strict',
    near,
    'verdict',
    'reject',
    'u * inDraft < inTarget',
    'u * inDraft < 0.8 * inTarget',
  ],
];

it.each(acceptanceFaults)('finds by the acceptance: %s', async (...fault) => {
  const { pValues } = await examine(plant(fault));
  expect(pValues.acceptance).toBeLessThan(significance);
});

/** Right distributions, by other numbers: only the twin tells. */
const counterFaults: Fault[] = [
  ['the draft one position on', near, 'draft', 'sample', drawnPosition, 'rows.row[t].position + 2u'],
  ['the draft one token on', near, 'draft', 'sample', 'purpose, token));', 'purpose, token + 1u));'],
  ['the draft of another purpose', near, 'draft', 'sample', 'purpose, token));', 'SHARED, token));'],
  ['the accept test one position on', near, 'verdict', 'reject', 'length + index,', 'length + index + 1u,'],
  ['the residual one position back', far, 'verdict', 'residual', 'length + accepted;', 'length + accepted - 1u;'],
  ['the residual one token on', far, 'verdict', 'residual', 'RESIDUAL, token)', 'RESIDUAL, token + 1u)'],
  [
    'the seed’s words swapped',
    near,
    'draft',
    'sample',
    'vec2(state[slot].seedLow, state[slot].seedHigh)',
    'vec2(state[slot].seedHigh, state[slot].seedLow)',
  ],
  ['16 rounds of threefry', far, 'verdict', 'residual', 'x = mix_a(x) + vec2(parity, key.x + 5u);', ''],
];

it.each(counterFaults)('finds by the twin: %s', async (...fault) => {
  const { pValues, differing } = await examine(plant(fault));
  expect(pValues['token 1']).toBeGreaterThan(significance);
  expect(differing).toBeGreaterThan(10);
});
