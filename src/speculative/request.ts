import { NonFiniteLogitsError } from '../errors.ts';
import type { Tokenizer } from '../model/tokenizer.ts';
import { createRun, type RunControl } from '../run.ts';
import type { FinishReason, GenerateResult, Round } from '../types.ts';
import { type Decoder, decode } from './decode.ts';
import { addRequest, addRound, type Metrics } from './metrics.ts';
import type { EmittedRecord } from './record.ts';
import { addRecord, createRequestCounters, metaInfo, requestStats, roundStats } from './stats.ts';

export type RequestFacts = {
  id: string;
  promptTokens: readonly number[];
  /** Most committed tokens, prompt included. */
  limit: number;
  stopTokens: readonly number[];
  draftLength: number;
  signal: AbortSignal | null;
};

/** One `generate` call: its run, and what turns records into rounds, text and statistics. */
export type Request = RunControl & {
  /** Decodes until the request has ended and its rounds have drained. Never rejects: errors end the run. */
  start(decoder: Decoder): Promise<void>;
};

export function createRequest(
  { id, promptTokens, limit, stopTokens, draftLength, signal }: RequestFacts,
  {
    tokenizer,
    metrics,
    onFinish,
  }: { tokenizer: Tokenizer; metrics: Metrics; onFinish: (result: GenerateResult) => void },
): Request {
  const control = createRun();
  const counters = createRequestCounters();
  const textStream = tokenizer.createTextStream();
  const tokens: number[] = [];
  let text = '';
  let ended = false;
  const calledAt = performance.now();
  let startedAt: number | null = null;
  let firstTokenAt: number | null = null;
  let lastRecordAt = calledAt;

  const end = (finishReason: FinishReason): void => {
    if (ended) return;
    ended = true;
    signal?.removeEventListener('abort', onAbort);
    const now = performance.now();
    const begun = startedAt ?? now;
    const first = firstTokenAt ?? now;
    const result: GenerateResult = {
      text,
      tokens,
      stats: requestStats(counters, {
        queueTimeMs: begun - calledAt,
        timeToFirstTokenMs: first - begun,
        decodeTimeMs: firstTokenAt === null ? 0 : lastRecordAt - firstTokenAt,
      }),
      meta_info: metaInfo(counters, {
        id,
        finishReason,
        promptTokens: promptTokens.length,
        cachedTokens: 0,
        latencyMs: now - calledAt,
      }),
    };
    addRequest(metrics, result.meta_info);
    control.finish(result);
    onFinish(result);
  };
  const fail = (error: unknown): void => {
    if (ended) return;
    ended = true;
    signal?.removeEventListener('abort', onAbort);
    control.fail(error);
  };
  const abort = (message: string): void => end({ type: 'abort', message });
  const onAbort = (): void => abort(messageOf(signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  control.onCancel(() => abort('the consumer left the iteration'));

  const onRecord = (record: EmittedRecord): void => {
    if (record.nonFinite) {
      fail(
        new NonFiniteLogitsError(
          `Expected finite logits after token ${record.length} of the sequence, the target model gave none. ` +
            'Its weights are damaged, or overflow in 16 bits: load the model files again.',
        ),
      );
      return;
    }
    const now = performance.now();
    addRecord(counters, record);
    addRound(metrics, record);
    const isLast = record.finish !== null;
    const pieces = record.tokens.map((token, i) => {
      // The token that stopped the request counts, but is no text.
      const stopped = record.finish === 'stop' && i === record.tokens.length - 1;
      return stopped ? '' : textStream.push(token);
    });
    if (isLast) pieces[pieces.length - 1] += textStream.flush();
    const round: Round = {
      text: pieces.join(''),
      tokens: record.tokens,
      pieces,
      stats: roundStats(record, now - lastRecordAt),
    };
    firstTokenAt ??= now;
    lastRecordAt = now;
    tokens.push(...record.tokens);
    text += round.text;
    control.push(round);
    if (record.finish === 'stop') end({ type: 'stop', matched: record.tokens.at(-1) as number });
    if (record.finish === 'length') end({ type: 'length', length: counters.completionTokens });
  };

  return {
    ...control,
    fail,
    async start(decoder) {
      if (ended) return;
      startedAt = performance.now();
      lastRecordAt = startedAt;
      try {
        await decode(decoder, { promptTokens, limit, stopTokens, draftLength }, onRecord, () => ended);
      } catch (error) {
        fail(decoder.gpu.failure ?? error);
      }
    },
  };
}

function messageOf(reason: unknown): string {
  return reason instanceof Error ? reason.message : String(reason ?? 'aborted');
}
