/** Requests of `createRequest` over scripted rounds, and what holds for each of them. */
import { expect } from 'vitest';
import { parseGenerateOptions } from '../../../src/options.ts';
import { addBatch, createMetrics, type Metrics } from '../../../src/speculative/metrics.ts';
import { createRequest } from '../../../src/speculative/request.ts';
import type { GenerateOptions, GenerateResult, Round } from '../../../src/types.ts';
import { tokenizer } from '../model/tokenizers.ts';
import { type Script, scriptedBatch } from './scripted_batch.ts';

/** `<|endoftext|>` of the embedded pair. */
export const endOfText = 0;
const promptTokens = [endOfText, 5, 6];

export type Played = {
  rounds: Round[];
  result: GenerateResult;
  metrics: Metrics;
  /** Records that the script wrote, those included that nobody may count. */
  recordCount: number;
};

/** Runs one request to its end: the options as a caller gives them, the records as the script has them. */
export async function play(script: Script, options: GenerateOptions): Promise<Played> {
  const facts = { drafter: 'model' as const, vocabSize: tokenizer.vocabSize, eosTokenIds: [endOfText] };
  const parsed = parseGenerateOptions(options, facts);
  const metrics = createMetrics({ prefix: '', modelName: '' });
  const { batch, recordCount } = scriptedBatch(script);
  batch.onRound = (records) => addBatch(metrics, records);
  const limit = promptTokens.length + parsed.maxNewTokens;
  const request = createRequest(
    { ...parsed, id: 'r', promptTokens, limit },
    { tokenizer, metrics, onFinish: () => {} },
  );
  await request.decodeOn(batch, 0);
  const result = await request.run.result;
  const rounds: Round[] = [];
  for await (const round of request.run) rounds.push(round);
  return { rounds, result, metrics, recordCount: recordCount() };
}

/** Checks what holds for every request that came to an end of its own, and gives the number of truncated tokens. */
export function checkSums({ rounds, result, metrics }: Played): number {
  const { text, tokens, stats, meta_info: meta } = result;
  expect(rounds.map((round) => round.text).join('')).toBe(text);
  expect(rounds.flatMap((round) => round.tokens)).toEqual(tokens);
  for (const round of rounds) {
    expect(round.pieces.join('')).toBe(round.text);
    expect(round.pieces).toHaveLength(round.tokens.length);
    expect(round.stats.tokenCount).toBe(round.tokens.length);
  }
  expect(rounds.map((round) => round.stats.index)).toEqual(rounds.map((_, i) => i));

  const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);
  const verify = rounds.filter((round) => round.stats.phase === 'verify');
  const plainCount = rounds.filter((round) => round.stats.phase === 'plain').length;
  const correct = sum(verify.map((round) => round.stats.acceptedCount));
  // What the rounds had agreed on, behind the last token that anybody sees.
  const truncated = sum(rounds.map((round) => round.stats.acceptedCount + 1 - round.stats.tokenCount));
  expect(meta.completion_tokens).toBe(tokens.length);
  expect(tokens.length).toBe(1 + correct + verify.length + plainCount - truncated);
  expect(rounds.slice(0, -1).every((round) => round.stats.tokenCount === round.stats.acceptedCount + 1)).toBe(true);
  expect(stats).toMatchObject({ roundCount: rounds.length - 1, verifyCount: verify.length, plainCount });
  expect(stats.acceptedCount).toBe(correct);
  expect(stats.draftedCount).toBe(sum(verify.map((round) => round.stats.draftLength)));
  if (verify.length > 0) {
    expect(meta.spec_verify_ct).toBe(verify.length);
    expect(meta.spec_plain_ct).toBe(plainCount);
    expect(meta.spec_num_correct_drafts).toBe(correct);
    expect(sum(meta.spec_correct_drafts_histogram!)).toBe(verify.length);
    expect(meta.spec_accept_length).toBe((tokens.length - plainCount) / verify.length);
  } else {
    expect(Object.keys(meta).filter((key) => key.startsWith('spec_'))).toEqual([]);
  }
  expect(metrics).toMatchObject({ requestCount: 1, generationTokens: tokens.length });
  expect(metrics.totals).toEqual({
    verifyCount: verify.length,
    draftedCount: stats.draftedCount,
    acceptedCount: correct,
  });
  return truncated;
}
