import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RoundRecord } from '../../../src/speculative/record.ts';
import {
  addRecord,
  batchEvent,
  batchLine,
  createRequestCounters,
  finishLine,
  metaInfo,
  type RequestCounters,
  type RequestFacts,
  requestStats,
  roundStats,
} from '../../../src/speculative/stats.ts';
import { decode, noop, prefill, simulatedRequest } from './records.ts';

const facts: RequestFacts = {
  id: 'req-1',
  finishReason: { type: 'stop', matched: 2 },
  promptTokens: 5,
  cachedTokens: 0,
  latencyMs: 1250,
};
const timings = {
  prefillTokens: 5,
  queueTimeMs: 1,
  timeToFirstTokenMs: 20,
  decodeTimeMs: 500,
  plainRoundMs: 31,
  expectedSpeedup: 1.9,
};

function count(records: RoundRecord[]): RequestCounters {
  const counters = createRequestCounters();
  for (const record of records) addRecord(counters, record);
  return counters;
}

const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);

describe('worked example: 14 verify passes of 3 drafts, 17 accepted, 32 completion tokens', () => {
  // 1 prefill token + 17 accepted + 14 bonus tokens = 32
  const accepted = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3];
  const records = [prefill(), ...accepted.map((a, i) => decode(3, a, { roundIndex: i + 1 }))];
  const meta = metaInfo(count(records), facts);

  it('gives the documented meta_info', () => {
    expect(meta).toEqual({
      id: 'req-1',
      finish_reason: { type: 'stop', matched: 2 },
      prompt_tokens: 5,
      completion_tokens: 32,
      cached_tokens: 0,
      weight_version: 'default',
      e2e_latency: 1.25,
      spec_verify_ct: 14,
      spec_plain_ct: 0,
      spec_num_proposed_drafts: 42,
      spec_num_correct_drafts: 17,
      spec_accept_rate: 0.40476190476190477,
      spec_accept_length: 2.2857142857142856,
      spec_correct_drafts_histogram: [4, 5, 3, 2],
      spec_accept_rate_per_pos: [10 / 14, 5 / 14, 2 / 14],
    });
  });

  it('gives the same in this library’s words', () => {
    expect(requestStats(count(records), timings)).toEqual({
      roundCount: 14,
      verifyCount: 14,
      plainCount: 0,
      draftedCount: 42,
      acceptedCount: 17,
      acceptanceRate: 0.40476190476190477,
      tokensPerRound: 31 / 14,
      queueTimeMs: 1,
      timeToFirstTokenMs: 20,
      prefillTokensPerSecond: 250,
      decodeTimeMs: 500,
      timePerOutputTokenMs: 500 / 31,
      tokensPerSecond: 62,
      // 31 ms a plain round against 500 / 31 a token
      observedSpeedup: (31 * 31) / 500,
      expectedSpeedup: 1.9,
    });
  });
});

describe('meta_info', () => {
  it('has no spec key at all when nothing was drafted', () => {
    const meta = metaInfo(count([prefill(), decode(0, 0), decode(0, 0), noop()]), facts);
    expect(Object.keys(meta).filter((key) => key.startsWith('spec_'))).toEqual([]);
    expect('spec_accept_rate' in meta).toBe(false);
    expect(meta.completion_tokens).toBe(3);
    expect(Object.keys(metaInfo(createRequestCounters(), facts))).toHaveLength(7);
  });

  it('shows 0, not nothing, when drafts were proposed and all rejected', () => {
    const meta = metaInfo(count([prefill(), decode(3, 0), decode(3, 0)]), facts);
    expect(meta).toMatchObject({
      spec_accept_rate: 0,
      spec_num_correct_drafts: 0,
      spec_accept_length: 1.5,
      spec_correct_drafts_histogram: [2],
      spec_accept_rate_per_pos: [0, 0, 0],
    });
  });

  it('uses the drafts that were there, not verify_ct × k, and leaves plain rounds out', () => {
    const meta = metaInfo(count([prefill(), decode(3, 3), decode(0, 0), decode(1, 0), decode(2, 2)]), facts);
    expect(meta).toMatchObject({
      completion_tokens: 1 + 4 + 1 + 1 + 3,
      spec_verify_ct: 3,
      spec_plain_ct: 1,
      spec_num_proposed_drafts: 6,
      spec_num_correct_drafts: 5,
      spec_accept_rate: 5 / 6,
      spec_accept_length: 9 / 3,
      spec_correct_drafts_histogram: [1, 0, 1, 1],
      spec_accept_rate_per_pos: [2 / 3, 2 / 2, 1 / 1],
    });
  });

  it('counts accepted drafts before a stop truncates them', () => {
    const meta = metaInfo(
      count([prefill(), decode(3, 3, { finish: 'stop', committedCount: 2, tokens: [7, 2] }), noop(), noop()]),
      facts,
    );
    expect(meta).toMatchObject({ completion_tokens: 3, spec_num_correct_drafts: 3, spec_accept_rate: 1 });
    expect(meta.spec_accept_length).toBe(3);
  });

  it('does not share its arrays with the counters', () => {
    const counters = count([prefill(), decode(2, 1)]);
    metaInfo(counters, facts).spec_correct_drafts_histogram!.push(99);
    expect(metaInfo(counters, facts).spec_correct_drafts_histogram).toEqual([0, 1]);
  });

  it('ignores a round without finite logits', () => {
    expect(count([prefill(), decode(3, 2, { nonFinite: true })])).toEqual(count([prefill()]));
  });
});

describe('requestStats', () => {
  it('says null where there is nothing to divide by', () => {
    const one = requestStats(count([prefill()]), { ...timings, decodeTimeMs: 0 });
    const none = { timePerOutputTokenMs: null, prefillTokensPerSecond: null };
    expect(requestStats(count([prefill()]), { ...timings, timeToFirstTokenMs: 0 })).toMatchObject(none);
    expect(one).toMatchObject({ acceptanceRate: null, tokensPerRound: null, tokensPerSecond: null, roundCount: 0 });
    const coarse = requestStats(count([prefill(), decode(0, 0)]), { ...timings, decodeTimeMs: 0 });
    expect(coarse.tokensPerSecond).toBeNull();
    const plain = requestStats(count([prefill(), decode(0, 0)]), { ...timings, decodeTimeMs: 10 });
    expect(plain).toMatchObject({ tokensPerSecond: 100, plainCount: 1, acceptanceRate: null });
    const unknown = { ...timings, plainRoundMs: null, expectedSpeedup: null };
    expect(requestStats(count([prefill(), decode(0, 0)]), unknown)).toMatchObject({
      observedSpeedup: null,
      expectedSpeedup: null,
    });
  });
});

describe('roundStats', () => {
  it('reports the round as it was, also when it was cut short', () => {
    const record = decode(3, 3, { roundIndex: 4, finish: 'length', committedCount: 1, tokens: [7] });
    expect(roundStats(record, 12.5)).toEqual({
      index: 4,
      phase: 'verify',
      draftLength: 3,
      acceptedCount: 3,
      tokenCount: 1,
      roundTimeMs: 12.5,
    });
    expect(roundStats(prefill(), 3)).toMatchObject({ index: 0, phase: 'prefill', draftLength: 0, tokenCount: 1 });
  });
});

describe('batchLine', () => {
  const window = { batchCount: 40, verifyCount: 14, draftedCount: 42, acceptedCount: 17, tokenCount: 61 };
  const now = { runningCount: 3, waitingCount: 2, elapsedMs: 2000 };

  it('tells what ran, how drafts did, how fast, and what waits', () => {
    expect(batchEvent(window, now)).toEqual({
      ...window,
      ...now,
      acceptanceRate: 17 / 42,
      tokensPerRound: 31 / 14,
    });
    expect(batchLine(batchEvent(window, now))).toBe(
      'Decode batch, #running-req: 3, accept len: 2.21, accept rate: 0.40, gen throughput (token/s): 30.50, #queue-req: 2',
    );
  });

  it('says nothing of drafts where there were none', () => {
    const plain = { batchCount: 40, verifyCount: 0, draftedCount: 0, acceptedCount: 0, tokenCount: 40 };
    const event = batchEvent(plain, { ...now, elapsedMs: 0 });
    expect(event).toMatchObject({ acceptanceRate: null, tokensPerRound: null });
    expect(batchLine(event)).toBe('Decode batch, #running-req: 3, gen throughput (token/s): 40000.00, #queue-req: 2');
  });
});

describe('finishLine', () => {
  it('is one line of JSON behind a fixed prefix, whatever the strings hold', () => {
    const meta = metaInfo(count([prefill(), decode(2, 1)]), {
      ...facts,
      finishReason: { type: 'abort', message: 'a\nb\r\u2028c\u2029"}' },
    });
    const line = finishLine(meta);
    expect(line).toMatch(/^Finish: \{.*\}$/);
    expect(line).not.toMatch(/[\n\r\u2028\u2029]/);
    expect(JSON.parse(line.slice('Finish: '.length))).toEqual(meta);
  });
});

describe('invariants', () => {
  it('hold on 10,000 random requests', { timeout: 60_000 }, () => {
    let verifiedCount = 0;
    let truncatedCount = 0;
    fc.assert(
      fc.property(simulatedRequest, ({ records, emitted, truncated, maxDraftLength }) => {
        const counters = count(records);
        const meta = metaInfo(counters, facts);
        const stats = requestStats(counters, timings);

        expect(meta.completion_tokens).toBe(emitted.length);
        const rounds = records.filter((record) => record.phase !== 'noop');
        const verify = rounds.filter((record) => record.phase === 'verify');
        const plainCount = rounds.filter((record) => record.phase === 'plain').length;
        expect(stats.roundCount).toBe(rounds.length - 1);
        for (const record of rounds) {
          expect(record.committedCount).toBeGreaterThanOrEqual(1);
          expect(record.committedCount).toBeLessThanOrEqual(record.draftCount + 1);
        }
        if (truncated > 0) truncatedCount += 1;

        if (verify.length === 0) {
          expect(Object.keys(meta).some((key) => key.startsWith('spec_'))).toBe(false);
          expect(stats.acceptanceRate).toBeNull();
          expect(emitted.length).toBe(1 + plainCount);
          return;
        }
        verifiedCount += 1;
        const correct = meta.spec_num_correct_drafts!;
        const histogram = meta.spec_correct_drafts_histogram!;
        expect(meta.spec_verify_ct).toBe(verify.length);
        expect(meta.spec_plain_ct).toBe(plainCount);
        expect(emitted.length).toBe(1 + correct + verify.length + plainCount - truncated);

        expect(meta.spec_accept_rate).toBeGreaterThanOrEqual(0);
        expect(meta.spec_accept_rate).toBeLessThanOrEqual(1);
        expect(stats.acceptanceRate).toBe(meta.spec_accept_rate);
        expect(stats.tokensPerRound).toBeGreaterThanOrEqual(1);
        expect(stats.tokensPerRound).toBeLessThanOrEqual(maxDraftLength + 1);

        expect(sum(histogram)).toBe(verify.length);
        expect(sum(histogram.map((rounds, accepted) => rounds * accepted))).toBe(correct);
        expect(histogram.length).toBe(1 + Math.max(...verify.map((record) => record.acceptedCount)));

        const perPosition = meta.spec_accept_rate_per_pos!;
        expect(perPosition).toHaveLength(maxDraftLength);
        expect(sum(counters.draftedPerPosition)).toBe(meta.spec_num_proposed_drafts);
        expect(sum(counters.acceptedPerPosition)).toBe(correct);
        expect(sum(perPosition.map((rate, i) => Math.round(rate * counters.draftedPerPosition[i]!)))).toBe(correct);
        for (const [i, accepted] of counters.acceptedPerPosition.entries()) {
          // A position was accepted exactly in the rounds that accepted more than i drafts.
          expect(accepted).toBe(sum(histogram.slice(i + 1)));
          expect(accepted).toBeLessThanOrEqual(counters.draftedPerPosition[i]!);
        }
      }),
      { numRuns: 10_000 },
    );
    // The generator must reach the cases that the invariants are about.
    expect(verifiedCount).toBeGreaterThan(5000);
    expect(truncatedCount).toBeGreaterThan(500);
  });

  it('do not depend on the order in which records arrive', () => {
    const shuffled = simulatedRequest.chain(({ records }) =>
      fc.tuple(fc.constant(records), fc.shuffledSubarray(records, { minLength: records.length })),
    );
    fc.assert(
      fc.property(shuffled, ([records, other]) => {
        expect(count(other)).toEqual(count(records));
      }),
      { numRuns: 1000 },
    );
  });
});
