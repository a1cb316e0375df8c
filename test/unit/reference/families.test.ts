/** The twin of the forward pass against Hugging Face transformers, in float64 on both sides, for every family. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import { architectures } from '../../../src/model/architectures.ts';
import type { ModelConfig } from '../../../src/model/config.ts';
import type { RopeConfig } from '../../../src/model/rope.ts';
import { argmax } from '../../reference/argmax.ts';
import { familyNames, loadFamily } from '../../reference/families.ts';
import { createReferenceModel } from '../../reference/forward.ts';

/** Twelve digits are stored. */
const tolerance = 1e-9;
/** What a wrong option must at least do to a logit, lest the checkpoint be blind to it. */
const visible = 1e-3;

const mapRopes = ({ ropes: { full, sliding } }: ModelConfig, change: (rope: RopeConfig) => RopeConfig) => ({
  ropes: { full: change(full), sliding: change(sliding) },
});
const mapWindows = ({ windows }: ModelConfig, change: (window: number) => number | null) => ({
  windows: windows.map((window) => (window === null ? null : change(window))),
});

const seen = new Set<string>();

/** Faults that some implementation of some family may have. */
const faults: Record<string, (config: ModelConfig) => Partial<ModelConfig>> = {
  'a window one longer': (config) => mapWindows(config, (window) => window + 1),
  'a window one shorter': (config) => mapWindows(config, (window) => window - 1),
  'no window': (config) => mapWindows(config, () => null),
  'a window in every layer': ({ windows }) => ({ windows: windows.map(() => windows.find((w) => w !== null) ?? null) }),
  'no rope scaling': (config) => mapRopes(config, (rope) => ({ ...rope, scaling: { type: 'none' } })),
  'no attention factor': (config) =>
    mapRopes(config, ({ scaling, ...rope }) => ({
      ...rope,
      scaling: scaling.type === 'longrope' ? { ...scaling, attentionFactor: 1 } : scaling,
    })),
  'one rotation for all layers': ({ ropes }) => ({ ropes: { full: ropes.full, sliding: ropes.full } }),
  'fewer dimensions turned': (config) => mapRopes(config, (rope) => ({ ...rope, rotaryDim: rope.rotaryDim - 4 })),
  'another theta': (config) => mapRopes(config, (rope) => ({ ...rope, theta: rope.theta * 1.1 })),
  'no norm of queries and keys': () => ({ qkNorm: 'none' }),
  'norm weights without 1': () => ({ normOffset: 0 }),
  'norm weights plus 1': () => ({ normOffset: 1 }),
  'another epsilon': ({ rmsNormEps }) => ({ rmsNormEps: rmsNormEps + 0.02 }),
  'embedding not scaled': () => ({ embeddingScale: 1 }),
  'scores scaled by the head': ({ headDim }) => ({ attentionScale: headDim ** -0.5 }),
  'silu for gelu': () => ({ activation: 'silu' }),
  'gelu for silu': () => ({ activation: 'gelu_tanh' }),
  'no biases on q, k, v': () => ({ attentionBias: false }),
  'no bias on the output': () => ({ attentionOutputBias: false }),
  'no biases in the feed-forward block': () => ({ mlpBias: false }),
};

test('there is a checkpoint of every family', () => {
  expect(familyNames.toSorted()).toEqual(Object.keys(architectures).toSorted());
});

describe.each(familyNames)('%s', (name) => {
  async function largestDifference(change: (config: ModelConfig) => ModelConfig = (config) => config) {
    const { config, tensors, expected } = await loadFamily(name);
    const rows = createReferenceModel(change(config), tensors).forward(expected.tokens, 0);
    return Math.max(
      ...Object.entries(expected.logits).flatMap(([row, logits]) =>
        logits.map((logit, i) => Math.abs(logit - rows[Number(row)]![i]!)),
      ),
    );
  }

  test('the twin has the logits of transformers', async () => {
    expect(await largestDifference()).toBeLessThan(tolerance);
  });

  test('and its greedy tokens', async () => {
    const { config, tensors, expected } = await loadFamily(name);
    const twin = createReferenceModel(config, tensors);
    for (const { promptLength, tokens, margins } of expected.greedy) {
      const sequence = [...expected.tokens.slice(0, promptLength), ...tokens.slice(0, -1)];
      const rows = twin.forward(sequence, 0).slice(promptLength - 1);
      expect(rows.map(argmax)).toEqual(tokens);
      expect(margins.length).toBe(64);
    }
  });

  const applicable = async () => {
    const { config } = await loadFamily(name);
    return Object.entries(faults).filter(([, fault]) => !isDeepStrictEqual({ ...config, ...fault(config) }, config));
  };

  test('and every fault shows', async () => {
    for (const [fault, change] of await applicable()) {
      const difference = await largestDifference((config) => ({ ...config, ...change(config) }));
      expect({ fault, shows: difference > visible }).toEqual({ fault, shows: true });
      seen.add(fault);
    }
  });
});

test('every fault was possible in some family', () => {
  expect([...seen].toSorted()).toEqual(Object.keys(faults).toSorted());
});
