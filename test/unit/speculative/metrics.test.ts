import fc from 'fast-check';
import parseTheirs from 'parse-prometheus-text-format';
import { describe, expect, it } from 'vitest';
import {
  addBatch,
  addRequest,
  createMetrics,
  gaugeValues,
  type Metrics,
  prometheusText,
  WINDOW_BATCHES,
} from '../../../src/speculative/metrics.ts';
import type { RoundRecord } from '../../../src/speculative/record.ts';
import { addRecord, createRequestCounters, metaInfo } from '../../../src/speculative/stats.ts';
import { parsePrometheus } from './prometheus.ts';
import { decode, noop, prefill, simulatedRequest } from './records.ts';

const create = (over: Partial<Parameters<typeof createMetrics>[0]> = {}): Metrics =>
  createMetrics({ prefix: 'foretoken:', modelName: 'tiny', ...over });

function addAll(metrics: Metrics, records: RoundRecord[]): Metrics {
  for (const record of records) addBatch(metrics, [record]);
  return metrics;
}

/** Value of the one sample of a family; undefined if the family has none. */
function sampleOf(metrics: Metrics, name: string): number | undefined {
  const family = parsePrometheus(prometheusText(metrics)).get(`${metrics.prefix}${name}`);
  expect(family).toBeDefined();
  expect(family!.samples.length).toBeLessThanOrEqual(1);
  return family!.samples[0]?.value;
}

const repeat = (times: number, make: () => RoundRecord): RoundRecord[] => Array.from({ length: times }, make);

describe('gauges', () => {
  it('give 57/23 and 34/69 for 57 tokens in 23 passes of 3 drafts', () => {
    // 23 bonus tokens + 34 accepted drafts = 57 tokens; the origin divided all 57 by 69.
    const accepted = [...Array(12).fill(2), ...Array(10).fill(1), 0] as number[];
    expect(accepted).toHaveLength(23);
    const metrics = addAll(
      create(),
      accepted.map((a) => decode(3, a)),
    );
    expect(sampleOf(metrics, 'spec_accept_length')).toBe(2.4782608695652173);
    expect(sampleOf(metrics, 'spec_accept_rate')).toBe(34 / 69);
  });

  const v = (accepted: number) => () => decode(3, accepted);
  const plain = () => decode(0, 0);
  const windows: [string, RoundRecord[], { rate: number; length: number } | undefined][] = [
    ['nothing yet', [], undefined],
    ['prefill only', [prefill()], undefined],
    ['no-ops only', repeat(100, noop), undefined],
    ['plain rounds only, window open', repeat(10, plain), undefined],
    ['plain rounds only, windows closed', repeat(85, plain), undefined],
    ['an open first window is shown', [v(1)(), v(2)()], { rate: 0.5, length: 2.5 }],
    ['an open first window, 39 batches', repeat(39, v(3)), { rate: 1, length: 4 }],
    ['a closed first window', repeat(40, v(3)), { rate: 1, length: 4 }],
    ['an open second window is not shown', [...repeat(40, v(3)), ...repeat(39, v(0))], { rate: 1, length: 4 }],
    ['a closed second window replaces it', [...repeat(40, v(3)), ...repeat(40, v(0))], { rate: 0, length: 1 }],
    ['windows tumble, they do not slide', [...repeat(60, v(3)), ...repeat(30, v(0))], { rate: 0.5, length: 2.5 }],
    ['a window without verify keeps the value', [...repeat(40, v(3)), ...repeat(40, plain)], { rate: 1, length: 4 }],
    [
      'three windows without verify keep the value',
      [...repeat(40, v(3)), ...repeat(120, plain), ...repeat(5, v(0))],
      { rate: 1, length: 4 },
    ],
    ['plain rounds fill the window', [...repeat(10, v(3)), ...repeat(30, plain), v(0)()], { rate: 1, length: 4 }],
    ['plain rounds do not enter the ratios', [...repeat(30, plain), ...repeat(10, v(3))], { rate: 1, length: 4 }],
    ['after an empty first window the open one is shown', [...repeat(40, plain), v(3)()], { rate: 1, length: 4 }],
    [
      'prefills and no-ops do not fill the window',
      [...repeat(40, prefill), ...repeat(39, v(3)), ...repeat(40, noop), ...repeat(40, prefill)],
      { rate: 1, length: 4 },
    ],
    [
      '…so that the 40th decode round closes it',
      [...repeat(40, noop), ...repeat(39, v(3)), ...repeat(5, prefill), v(3)(), v(0)()],
      { rate: 1, length: 4 },
    ],
    ['mixed draft lengths weigh by drafts', [decode(1, 1), decode(7, 0)], { rate: 1 / 8, length: 1.5 }],
    ['a round without finite logits enters nothing', [decode(3, 3, { nonFinite: true })], undefined],
  ];
  it.each(windows)('%s', (_, records, shown) => {
    const metrics = addAll(create(), records);
    expect(sampleOf(metrics, 'spec_accept_rate')).toBe(shown?.rate);
    expect(sampleOf(metrics, 'spec_accept_length')).toBe(shown?.length);
    expect(gaugeValues(metrics)).toEqual(
      shown === undefined ? null : { acceptRate: shown.rate, acceptLength: shown.length },
    );
  });

  it('count a batch once, however many sequences it has', () => {
    const metrics = create();
    const batch = [decode(3, 3), decode(3, 0), prefill(), noop()];
    for (let i = 1; i < WINDOW_BATCHES; i += 1) expect(addBatch(metrics, batch)).toBeNull();
    const closed = { verifyCount: 80, draftedCount: 240, acceptedCount: 120, batchCount: 40, tokenCount: 200 };
    expect(addBatch(metrics, batch)).toEqual(closed);
    expect(metrics.closed).toEqual(closed);
    addBatch(metrics, [prefill(), noop()]);
    addBatch(metrics, []);
    expect(metrics.window.batchCount).toBe(0);
  });
});

describe('counters', () => {
  it('add up a small history', () => {
    const metrics = addAll(create(), [prefill(), decode(3, 2), decode(0, 0), decode(1, 1), decode(4, 0), noop()]);
    const counters = createRequestCounters();
    for (const record of [prefill(), decode(3, 2)]) addRecord(counters, record);
    const facts = { id: 'a', promptTokens: 5, cachedTokens: 0, latencyMs: 1 };
    addRequest(metrics, metaInfo(counters, { ...facts, finishReason: { type: 'length', length: 4 } }));
    addRequest(metrics, metaInfo(counters, { ...facts, finishReason: { type: 'abort', message: 'aborted' } }));

    expect(sampleOf(metrics, 'spec_verify_calls_total')).toBe(3);
    expect(sampleOf(metrics, 'spec_num_drafts_total')).toBe(3);
    expect(sampleOf(metrics, 'spec_num_draft_tokens_total')).toBe(8);
    expect(sampleOf(metrics, 'spec_num_accepted_tokens_total')).toBe(3);
    expect(sampleOf(metrics, 'num_requests_total')).toBe(2);
    expect(sampleOf(metrics, 'prompt_tokens_total')).toBe(10);
    expect(sampleOf(metrics, 'generation_tokens_total')).toBe(8);
    const perPosition = parsePrometheus(prometheusText(metrics)).get(
      'foretoken:spec_num_accepted_tokens_per_pos_total',
    );
    expect(perPosition!.samples.map(({ labels, value }) => [labels.get('position'), value])).toEqual([
      ['0', 2],
      ['1', 1],
      ['2', 0],
      ['3', 0],
    ]);
  });

  it('equal the sums over the requests’ meta_info, and do not depend on order', () => {
    fc.assert(
      fc.property(fc.array(simulatedRequest, { minLength: 1, maxLength: 4 }), (requests) => {
        const forward = create();
        const backward = create();
        const sums = { verify: 0, drafted: 0, accepted: 0 };
        for (const { records } of requests) {
          const counters = createRequestCounters();
          for (const record of records) addRecord(counters, record);
          sums.verify += counters.verifyCount;
          sums.drafted += counters.draftedCount;
          sums.accepted += counters.acceptedCount;
        }
        const all = requests.flatMap(({ records }) => records);
        addAll(forward, all);
        addAll(backward, all.toReversed());
        expect(forward.totals).toEqual({
          verifyCount: sums.verify,
          draftedCount: sums.drafted,
          acceptedCount: sums.accepted,
        });
        expect(backward.totals).toEqual(forward.totals);
        expect(backward.acceptedPerPosition).toEqual(forward.acceptedPerPosition);
        expect(forward.acceptedPerPosition.reduce((a, b) => a + b, 0)).toBe(sums.accepted);
        const shown = gaugeValues(forward);
        if (shown !== null) {
          expect(shown.acceptRate).toBeGreaterThanOrEqual(0);
          expect(shown.acceptRate).toBeLessThanOrEqual(1);
          expect(shown.acceptLength).toBeGreaterThanOrEqual(1);
          expect(shown.acceptLength).toBeLessThanOrEqual(8);
        }
        parsePrometheus(prometheusText(forward));
      }),
      { numRuns: 500 },
    );
  });
});

describe('Prometheus text', () => {
  const names = [
    ['spec_accept_rate', 'gauge'],
    ['spec_accept_length', 'gauge'],
    ['spec_verify_calls_total', 'counter'],
    ['spec_num_drafts_total', 'counter'],
    ['spec_num_draft_tokens_total', 'counter'],
    ['spec_num_accepted_tokens_total', 'counter'],
    ['spec_num_accepted_tokens_per_pos_total', 'counter'],
    ['num_requests_total', 'counter'],
    ['prompt_tokens_total', 'counter'],
    ['generation_tokens_total', 'counter'],
  ];

  it.each(['foretoken:', 'sglang:', 'my_app_', ''])('with the prefix %j is valid and complete', (prefix) => {
    const families = parsePrometheus(prometheusText(addAll(create({ prefix }), [prefill(), decode(3, 1)])));
    expect([...families].map(([name, { type }]) => [name, type])).toEqual(
      names.map(([name, type]) => [`${prefix}${name}`, type]),
    );
    for (const { help, samples } of families.values()) {
      expect(help.length).toBeGreaterThan(10);
      expect(samples.length).toBeGreaterThan(0);
      for (const { labels } of samples) {
        labels.delete('position');
        expect([...labels]).toEqual([
          ['engine_type', 'unified'],
          ['model_name', 'tiny'],
          ['tp_rank', '0'],
          ['pp_rank', '0'],
        ]);
      }
    }
  });

  it('is read by another program’s parser as by ours', () => {
    const text = prometheusText(addAll(create({ modelName: 'a "b" \\c' }), [prefill(), decode(3, 1), decode(2, 2)]));
    const ours = [...parsePrometheus(text)].map(([name, { type, samples }]) => ({
      name,
      type: type.toUpperCase(),
      metrics: samples.map(({ value, labels }) => ({ value, labels: Object.fromEntries(labels) })),
    }));
    const theirs = parseTheirs(text).map(({ name, type, metrics }) => ({
      name,
      type,
      metrics: metrics.map(({ value, labels }) => ({ value: Number(value), labels })),
    }));
    expect(theirs).toEqual(ours);
    expect(theirs).toHaveLength(10);
  });

  it('shows counters at 0 and gauges without a sample before anything ran', () => {
    const families = parsePrometheus(prometheusText(create()));
    expect(families.get('foretoken:spec_verify_calls_total')!.samples[0]!.value).toBe(0);
    expect(families.get('foretoken:spec_accept_rate')!.samples).toEqual([]);
    expect(prometheusText(create())).not.toMatch(/NaN|undefined|null/);
  });

  it('escapes every label so that it reads back', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('\\', '"', '\n', 'n', '}', ',', '=', ' ', 'é') }), (modelName) => {
        const families = parsePrometheus(prometheusText(create({ modelName })));
        const labels = families.get('foretoken:num_requests_total')!.samples[0]!.labels;
        expect(labels.get('model_name')).toBe(modelName);
      }),
      { numRuns: 1000 },
    );
    expect(prometheusText(create({ modelName: 'a\\b"c\nd' }))).toContain('model_name="a\\\\b\\"c\\nd"');
  });
});

describe('the test’s own parser', () => {
  const bad: [string, string][] = [
    ['no newline at the end', '# HELP a b\n# TYPE a gauge\na 1'],
    ['a sample without TYPE', 'a 1\n'],
    ['TYPE twice', '# HELP a b\n# TYPE a gauge\n# TYPE a gauge\na 1\n'],
    ['another family’s sample', '# HELP a b\n# TYPE a gauge\nb 1\n'],
    ['a raw newline in a label', '# HELP a b\n# TYPE a gauge\na{l="x\ny"} 1\n'],
    ['an unescaped quote', '# HELP a b\n# TYPE a gauge\na{l="x"y"} 1\n'],
    ['an unknown escape', '# HELP a b\n# TYPE a gauge\na{l="\\t"} 1\n'],
    ['a label twice', '# HELP a b\n# TYPE a gauge\na{l="1",l="2"} 1\n'],
    ['a series twice', '# HELP a b\n# TYPE a gauge\na{l="1"} 1\na{l="1"} 2\n'],
    ['no number', '# HELP a b\n# TYPE a gauge\na undefined\n'],
    ['an empty value', '# HELP a b\n# TYPE a gauge\na \n'],
    ['a bad name', '# HELP 1a b\n# TYPE 1a gauge\n1a 1\n'],
    ['a counter without _total', '# HELP a b\n# TYPE a counter\na 1\n'],
    ['an empty line', '# HELP a b\n\n# TYPE a gauge\na 1\n'],
  ];
  it.each(bad)('refuses %s', (_, text) => {
    expect(() => parsePrometheus(text)).toThrow();
  });
  it('reads what is right', () => {
    const families = parsePrometheus('# HELP a b c\n# TYPE a gauge\na{l="x\\"\\\\\\n"} 1.5e-3\n');
    expect(families.get('a')).toEqual({
      help: 'b c',
      type: 'gauge',
      samples: [{ labels: new Map([['l', 'x"\\\n']]), value: 0.0015 }],
    });
  });
});
