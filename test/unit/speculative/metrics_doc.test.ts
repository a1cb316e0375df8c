import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { addBatch, createMetrics, prometheusText } from '../../../src/speculative/metrics.ts';
import { RECORD_FIELDS } from '../../../src/speculative/record.ts';
import {
  addRecord,
  createRequestCounters,
  metaInfo,
  requestStats,
  roundStats,
} from '../../../src/speculative/stats.ts';
import { decode, prefill } from './records.ts';

// Formatters pad table cells; the padding means nothing.
const page = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8').replace(/ +\|/g, ' |');

function block(language: string): string {
  const found = new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 's').exec(page)?.[1];
  if (found === undefined) throw new Error(`docs/metrics.md has no ${language} block`);
  return found;
}

describe('docs/metrics.md', () => {
  const accepted = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3];
  const counters = createRequestCounters();
  for (const record of [prefill(), ...accepted.map((a) => decode(3, a))]) addRecord(counters, record);
  const meta = metaInfo(counters, {
    id: 'req-1',
    finishReason: { type: 'stop', matched: 2 },
    promptTokens: 5,
    cachedTokens: 0,
    latencyMs: 1250,
  });

  it('shows the meta_info that these records give', () => {
    expect(JSON.parse(block('json'))).toEqual(meta);
  });

  it('shows the Prometheus text that 23 passes with 34 of 69 drafts accepted give', () => {
    const metrics = createMetrics({ prefix: 'foretoken:', modelName: 'tiny' });
    for (let i = 0; i < 23; i += 1) addBatch(metrics, [decode(3, i < 11 ? 2 : 1)]);
    const text = prometheusText(metrics);
    expect(text.startsWith(block('text'))).toBe(true);
    const families = [...text.matchAll(/^# TYPE foretoken:(\S+) (\S+)$/gm)];
    for (const [, name, type] of families) expect(page).toContain(`| \`${name}\` | ${type} |`);
  });

  it('explains every key', () => {
    const timings = {
      queueTimeMs: 0,
      timeToFirstTokenMs: 0,
      prefillTokens: 5,
      decodeTimeMs: 0,
      plainRoundMs: null,
      expectedSpeedup: null,
    };
    const keys = [
      ...Object.keys(meta),
      ...Object.keys(requestStats(counters, timings)),
      ...Object.keys(roundStats(prefill(), 0)),
    ];
    for (const key of keys) expect(page, key).toMatch(new RegExp(`^\\| .*\`${key}\``, 'm'));
    for (const [field, word] of Object.entries(RECORD_FIELDS)) {
      expect(page).toContain(`| ${field === 'tokens' ? '8..15' : word} | \`${field}\` |`);
    }
  });
});
