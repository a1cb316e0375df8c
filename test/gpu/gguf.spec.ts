/** A GGUF file through the whole engine: the embedded target, converted in memory, beside its own safetensors. */
import { beforeAll, expect, it } from 'vitest';
import { checkPair } from '../../src/check_model.ts';
import { WebGPUUnavailableError } from '../../src/errors.ts';
import { parseConfig } from '../../src/model/config.ts';
import { fileSource } from '../../src/model/file_source.ts';
import type { Engine } from '../../src/types.ts';
import { readSafetensors } from '../reference/checkpoint.ts';
import { teacherForcedGaps } from '../reference/generate.ts';
import { convertToGguf, type GgufFields, ggufTokenizerFields, type MatrixType } from '../reference/gguf.ts';
import { prompts } from '../reference/prompts.ts';
import { embeddedFiles, embeddedPrompts, embeddedSource, embeddedTwin, openEngine } from './engine_bench.ts';

async function ggufSource(matrices: MatrixType) {
  const files = await embeddedFiles('stories-3m', ['config.json', 'tokenizer.json', 'model.safetensors']);
  const json = (name: string) => JSON.parse(new TextDecoder().decode(files.get(name)));
  const config = parseConfig(json('config.json'), 'stories-3m');
  const fields: GgufFields = {
    ...ggufTokenizerFields(json('tokenizer.json'), 'gpt-2', config.vocabSize),
    'tokenizer.ggml.bos_token_id': ['u32', 0],
    'tokenizer.ggml.eos_token_id': ['u32', 0],
    'tokenizer.ggml.add_bos_token': ['bool', true],
  };
  const tensors = readSafetensors(files.get('model.safetensors') as Uint8Array);
  return fileSource(new File([convertToGguf(config, tensors, fields, { matrices })], 'stories.gguf'));
}

let folder: Engine;
beforeAll(async () => {
  folder = await openEngine(embeddedSource('stories-3m'), null);
});

it('takes the GPU memory that a check foretells, to the byte', async () => {
  const { contextLength, roundsInFlight, maxRunningRequests, gpuBytes, target } = folder.info;
  const options = {
    contextLength,
    roundsInFlight,
    maxRunningRequests,
    dtype: 'f16',
    ngram: null,
    headTokens: null,
    signal: null,
  } as const;
  const check = await checkPair(
    new WebGPUUnavailableError('not asked for'),
    embeddedSource('stories-3m'),
    null,
    options,
  );
  expect(check.gpuBytes.total).toBe(gpuBytes);
  expect(check.gpuBytes.weights).toBe(target.weightBytes);
  expect(check.target.parameterCount).toBe(target.parameterCount);
});

it('F16: the text of the safetensors folder, from a string, with a draft from a folder', async () => {
  const engine = await openEngine(await ggufSource('as stored'), embeddedSource('stories-650k'));
  expect(engine.info.target.parameterCount).toBe(folder.info.target.parameterCount);
  for (const index of [0, 12]) {
    const prompt = prompts[index] as string;
    const expected = await folder.generate(prompt, { maxNewTokens: 16 }).result;
    const { text, tokens, stats } = await engine.generate(prompt, { maxNewTokens: 16, draftLength: 3 }).result;
    expect({ text, tokens }).toEqual({ text: expected.text, tokens: expected.tokens });
    expect(stats.acceptedCount).toBeGreaterThan(2);
  }
});

it('Q8_0 in part: each matrix in its own precision, and tokens near the file’s own weights', async () => {
  const engine = await openEngine(await ggufSource('Q8_0 in part'), null);
  expect(engine.info.dtype).toBe('mixed');
  expect(folder.info.dtype).toBe('f16');
  const { weightBytes } = engine.info.target;
  expect(weightBytes).toBeLessThan(0.85 * folder.info.target.weightBytes);
  const prompt = (await embeddedPrompts())[0] as number[];
  const { tokens } = await engine.generate(prompt, { maxNewTokens: 16 }).result;
  expect(Math.max(...teacherForcedGaps(await embeddedTwin('stories-3m'), prompt, tokens))).toBeLessThan(0.3);
});
