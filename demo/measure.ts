/** Timed runs over an engine, for the race and the bench. No DOM here. */
import type { Engine, GenerateOptions, GenerateResult, Round } from 'foretoken';

/** One round with the time at which the page received it, in ms since `generate` was called. */
export type TimedRound = { timeMs: number; round: Round };

export type Recording = { draftLength: number; rounds: TimedRound[]; result: GenerateResult };

/** Generates once and keeps every round with its time of arrival. Rejects with an AbortError when `signal` fires. */
export async function recordRun(
  engine: Engine,
  prompt: string,
  {
    signal,
    ...options
  }: Pick<GenerateOptions, 'temperature' | 'seed'> & {
    draftLength: number;
    maxNewTokens: number;
    signal?: AbortSignal | undefined;
  },
): Promise<Recording> {
  const rounds: TimedRound[] = [];
  const start = performance.now();
  const run = engine.generate(prompt, { ...options, ...(signal === undefined ? {} : { signal }) });
  for await (const round of run) rounds.push({ timeMs: performance.now() - start, round });
  const result = await run.result;
  // An aborted run resolves with what it has, which must not be timed or compared as if it were whole.
  signal?.throwIfAborted();
  return { draftLength: options.draftLength, rounds, result };
}

/** Index of the first token in which two outputs differ (or one has ended); null when they are identical. */
export function firstDifference(a: readonly number[], b: readonly number[]): number | null {
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return null;
}

/** The middle value, or the mean of the two middle ones. Throws on an empty list: there is no figure to report then. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error('Expected at least one value for a median, got none.');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Tokens after the first per second of decoding; throws when a run is too short to have a speed. */
export function speedOf({ result }: Recording): number {
  const speed = result.stats.tokensPerSecond;
  if (speed === null) {
    throw new Error(
      `Expected at least two tokens to time, got ${result.tokens.length}. Use another prompt or raise the token count.`,
    );
  }
  return speed;
}
