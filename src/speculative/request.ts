import { DeviceLostError, NonFiniteLogitsError } from '../errors.ts';
import type { Tokenizer } from '../model/tokenizer.ts';
import type { ParsedGenerateOptions } from '../options.ts';
import { createRun, type RunControl } from '../run.ts';
import type { FinishReason, GenerateResult, Round, TokenLogprob } from '../types.ts';
import { type Batch, decode } from './batch.ts';
import type { DraftLengthPolicy } from './draft_length.ts';
import type { TokenIdLogprob } from './logprobs.ts';
import { addRequest, type Metrics } from './metrics.ts';
import { cutRecord, type EmittedRecord } from './record.ts';
import { addRecord, createRequestCounters, metaInfo, requestStats, roundStats } from './stats.ts';
import { createStopSearch } from './stop_strings.ts';

export type RequestFacts = Pick<
  ParsedGenerateOptions,
  'draftLength' | 'sampling' | 'stop' | 'stopTokens' | 'logprobs' | 'topLogprobs' | 'signal'
> & {
  id: string;
  promptTokens: readonly number[];
  /** Most committed tokens, prompt included. */
  limit: number;
};

/** One `generate` call: its run, and what turns records into rounds, text and statistics. */
export type Request = RunControl & {
  readonly id: string;
  /** Its result is known, though rounds may be under way. */
  hasEnded(): boolean;
  /**
   * Decodes until the request has ended and its rounds have drained, or the device was lost: it can go on upon another
   * then, and writes what it would have written. Never rejects: errors end the run.
   */
  decodeOn(batch: Batch, slot: number): Promise<'ended' | 'lost'>;
};

export function createRequest(
  { id, promptTokens, limit, signal, stop, ...options }: RequestFacts,
  {
    tokenizer,
    metrics,
    onFinish,
  }: { tokenizer: Tokenizer; metrics: Metrics; onFinish: (result: GenerateResult) => void },
): Request {
  const control = createRun();
  const counters = createRequestCounters();
  const textStream = tokenizer.createTextStream();
  const stopSearch = createStopSearch(stop);
  let cachedTokens = 0;
  let roundCount = 0;
  let policy: DraftLengthPolicy | null = null;
  const tokens: number[] = [];
  const logprobs: TokenLogprob[] = [];
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
    const meanLength = promptTokens.length + counters.completionTokens / 2;
    const result: GenerateResult = {
      text,
      tokens,
      ...(options.logprobs && { logprobs }),
      stats: requestStats(counters, {
        queueTimeMs: begun - calledAt,
        timeToFirstTokenMs: first - begun,
        prefillTokens: promptTokens.length - cachedTokens,
        decodeTimeMs: firstTokenAt === null ? 0 : lastRecordAt - firstTokenAt,
        plainRoundMs: policy?.plainRoundMs(meanLength) ?? null,
        expectedSpeedup: policy?.expectedSpeedup(counters.roundsByDraftCount, meanLength) ?? null,
      }),
      meta_info: metaInfo(counters, {
        id,
        finishReason,
        promptTokens: promptTokens.length,
        cachedTokens,
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
  const abort = (message: string): void => {
    if (ended) return;
    // No round will show what was held back: it may come at any time, and rounds are of records.
    const { released, matched } = stopSearch.push(textStream.flush());
    text += matched === null ? released + stopSearch.flush() : released;
    end({ type: 'abort', message });
  };
  const onAbort = (): void => abort(messageOf(signal?.reason));
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  control.onCancel(() => abort('the consumer left the iteration'));

  /** What each token makes visible, up to and with the token that completes a stop string. */
  const showTokens = (record: EmittedRecord): { pieces: string[]; matched: string | null } => {
    const pieces: string[] = [];
    for (const [i, token] of record.tokens.entries()) {
      const isLast = record.finish !== null && i === record.tokens.length - 1;
      // The token that stopped the request counts, but is no text.
      const fresh = isLast && record.finish === 'stop' ? '' : textStream.push(token);
      const { released, matched } = stopSearch.push(isLast ? fresh + textStream.flush() : fresh);
      pieces.push(isLast && matched === null ? released + stopSearch.flush() : released);
      if (matched !== null) return { pieces, matched };
    }
    return { pieces, matched: null };
  };

  const withTexts = (entry: TokenIdLogprob): TokenLogprob => ({
    ...entry,
    ...tokenizer.pieceOf(entry.token),
    top: entry.top.map((other) => ({ ...other, ...tokenizer.pieceOf(other.token) })),
  });

  const onRecord = (received: EmittedRecord, recordLogprobs: TokenIdLogprob[] | null): EmittedRecord | null => {
    // Upon another device the rounds count on, and the pass over what was emitted before yields one token as a plain one does.
    const record: EmittedRecord =
      received.phase === 'prefill' && roundCount > 0
        ? { ...received, roundIndex: roundCount, phase: 'plain' }
        : { ...received, roundIndex: roundCount };
    if (record.nonFinite) {
      fail(
        new NonFiniteLogitsError(
          `Expected finite logits after token ${record.length} of the sequence, the target model gave none. ` +
            'Its weights are damaged, or overflow in 16 bits: load the model files again.',
        ),
      );
      return null;
    }
    const now = performance.now();
    const { pieces, matched } = showTokens(record);
    const emitted = matched === null ? record : cutRecord(record, pieces.length);
    roundCount += 1;
    addRecord(counters, emitted);
    const round: Round = {
      text: pieces.join(''),
      tokens: emitted.tokens,
      pieces,
      ...(recordLogprobs !== null && { logprobs: recordLogprobs.slice(0, emitted.tokens.length).map(withTexts) }),
      stats: roundStats(emitted, now - lastRecordAt),
    };
    firstTokenAt ??= now;
    lastRecordAt = now;
    tokens.push(...round.tokens);
    logprobs.push(...(round.logprobs ?? []));
    text += round.text;
    control.push(round);
    if (emitted.finish === 'stop') end({ type: 'stop', matched: matched ?? (emitted.tokens.at(-1) as number) });
    if (emitted.finish === 'length') end({ type: 'length', length: counters.completionTokens });
    return emitted;
  };

  return {
    ...control,
    id,
    fail,
    hasEnded: () => ended,
    async decodeOn(batch, slot) {
      if (ended) return 'ended';
      if (startedAt === null) {
        startedAt = performance.now();
        lastRecordAt = startedAt;
      }
      policy = batch.policy;
      const onStart = (count: number): void => {
        if (tokens.length === 0) cachedTokens = count;
      };
      try {
        const request = { promptTokens, emittedTokens: tokens, limit, ...options };
        await decode(batch, slot, request, { onStart, onRecord, isCancelled: () => ended });
      } catch (error) {
        if (!ended && batch.gpu.failure instanceof DeviceLostError) return 'lost';
        fail(batch.gpu.failure ?? error);
      }
      return 'ended';
    },
  };
}

function messageOf(reason: unknown): string {
  return reason instanceof Error ? reason.message : String(reason ?? 'aborted');
}
