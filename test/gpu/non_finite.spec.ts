/** Weights that are NaN or infinite: what fails says so, what does not need them goes on. */
import { expect, it } from 'vitest';
import { ModelFormatError, NonFiniteLogitsError } from '../../src/errors.ts';
import { openGpu } from '../../src/gpu/device.ts';
import type { Engine, Round } from '../../src/types.ts';
import { writeSafetensors } from '../reference/checkpoint.ts';
import { type RandomModel, type RandomModelOptions, randomModel } from '../reference/random_model.ts';
import { memorySource, openEngine, randomFolder, withoutLastLayer } from './engine_bench.ts';

const embedding = 'model.embed_tokens.weight'; // (V, D), not tied to the head
const half = { nan: 0x7e00, infinity: 0x7c00 };

/** The model with one 16-bit value of a tensor replaced. */
function damaged(model: RandomModel, name: string, element: number, bits: number): RandomModel {
  const tensor = model.tensors.get(name)!;
  const data = tensor.data.slice();
  new DataView(data.buffer).setUint16(element * 2, bits, true);
  const tensors = new Map(model.tensors).set(name, { ...tensor, data });
  return { ...model, tensors, safetensors: writeSafetensors(tensors) };
}

/** The model with a NaN in the embedding of one token: finite as long as that token is not read. */
const withoutToken = (model: RandomModel, token: number, bits = half.nan) =>
  damaged(model, embedding, token * model.config.hiddenSize + 3, bits);

const healthy = randomModel({}, 63);
const source = (name: string, model: Parameters<typeof randomFolder>[0]) => memorySource(name, randomFolder(model));
const open = (target: RandomModel, draft: Parameters<typeof randomFolder>[0] = withoutLastLayer(healthy)) =>
  openEngine(source('target', target), source('draft', draft));

const prompt = [5, 6, 7];
const tokensOf = async (engine: Engine, draftLength: number) =>
  (await engine.generate(prompt, { draftLength, maxNewTokens: 24 }).result).tokens;

it.each(Object.entries(half))(
  'a prompt that reads %s fails, and the next one finds no trace of it',
  async (_, bits) => {
    const expected = await tokensOf(await open(healthy), 0);
    const poison = 200;
    expect(expected).not.toContain(poison);
    const engine = await open(withoutToken(healthy, poison, bits));
    // Longer than the good prompt and its tokens, so that stale rows lie all around those.
    const longPrompt = [1, poison, ...Array.from({ length: 60 }, (_, i) => i)];
    for (const k of [0, 3]) {
      await expect(engine.generate(longPrompt, { draftLength: k }).result).rejects.toThrow(NonFiniteLogitsError);
      expect({ k, tokens: await tokensOf(engine, k) }).toEqual({ k, tokens: expected });
    }
    expect(await engine.metrics()).toContain('spec_verify_calls_total');
  },
);

it.each([0, 3])('k = %i: a run that comes to NaN keeps the rounds before it, then throws', async (k) => {
  const expected = await tokensOf(await open(healthy), 0);
  const index = expected.findIndex((token, i) => i >= 8 && !prompt.includes(token) && expected.indexOf(token) === i);
  expect(index).toBeGreaterThan(7);
  const engine = await open(withoutToken(healthy, expected[index] as number));
  const run = engine.generate(prompt, { draftLength: k, maxNewTokens: 24 });
  const rounds: Round[] = [];
  const iterate = async () => {
    for await (const round of run) rounds.push(round);
  };
  await expect(iterate()).rejects.toThrow(NonFiniteLogitsError);
  await expect(run.result).rejects.toThrow(/finite logits after token \d+ .*load the model files again/);
  const tokens = rounds.flatMap((round) => round.tokens);
  expect(tokens).toEqual(expected.slice(0, tokens.length));
  // The token itself is still chosen by finite logits; a round that met NaN behind it is lost as a whole.
  expect(tokens.length).toBeGreaterThan(index - k);
  expect(tokens.length).toBeLessThanOrEqual(index + 1);
});

it('a target that is NaN throughout loads, and every request says so', async () => {
  const engine = await open(damaged(healthy, 'model.norm.weight', 0, half.nan));
  for (const k of [0, 3, 3]) {
    await expect(engine.generate(prompt, { draftLength: k }).result).rejects.toThrow(NonFiniteLogitsError);
  }
});

it('a draft that is NaN throughout changes no token', async () => {
  const expected = await tokensOf(await open(healthy), 0);
  const draft = damaged(healthy, 'model.norm.weight', 0, half.nan);
  const engine = await open(healthy, draft);
  for (const k of [1, 3, 7]) {
    const { tokens, meta_info: meta } = await engine.generate(prompt, { draftLength: k, maxNewTokens: 24 }).result;
    expect({ k, tokens }).toEqual({ k, tokens: expected });
    expect(meta.spec_num_correct_drafts).toBe(0);
  }
});

it.each(['BF16', 'F32'] as const)(
  'an infinite %s matrix, which float16 cannot hold, is refused by name',
  async (dtype) => {
    const options: RandomModelOptions = { dtype };
    const model = randomModel(options, 63);
    // The upper half of a float32, or the whole of a bfloat16.
    const element = dtype === 'F32' ? 2 * 50 + 1 : 50;
    const target = source('target', damaged(model, embedding, element, 0x7f80));
    const opening = openEngine(target, null, {}, await openGpu());
    await expect(opening).rejects.toThrow(ModelFormatError);
    await expect(opening).rejects.toThrow(/memory\.test\/target\/ .*float16 .*model\.embed_tokens\.weight\./);
  },
);
