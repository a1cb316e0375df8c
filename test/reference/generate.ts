/** Float64 twins of the generate loop: the target's own greedy decode, and the same text by speculation. */
import { type AcceptResult, accept, countDrafts } from './accept.ts';
import { argmax, margin } from './argmax.ts';
import type { ReferenceModel } from './forward.ts';

export type GreedyResult = {
  /** New tokens, a stop token included. */
  tokens: number[];
  /** [i] = largest logit − second largest where tokens[i] was chosen. */
  margins: number[];
  finish: 'stop' | 'length';
};

export type ReferenceRound = Pick<AcceptResult, 'draftCount' | 'acceptedCount'> & { committedCount: number };

export type SpeculativeResult = { tokens: number[]; rounds: ReferenceRound[]; finish: 'stop' | 'length' };

/** The logits after a sequence; computes only what the model has not cached. */
export function logitsAfter(model: ReferenceModel, sequence: readonly number[]): Float64Array {
  let cached = 0;
  // The last token is always fed: its logits are wanted, and only keys and values are cached.
  while (cached < sequence.length - 1 && model.tokens[cached] === sequence[cached]) cached++;
  return model.forward(sequence.slice(cached), cached).at(-1)!;
}

export function referenceGreedy(
  model: ReferenceModel,
  promptTokens: readonly number[],
  maxNewTokens: number,
  eosTokenIds: readonly number[],
  contextLength: number = model.config.maxContextLength,
): GreedyResult {
  const maxLength = lengthLimit(promptTokens, maxNewTokens, contextLength);
  const sequence = [...promptTokens];
  const margins: number[] = [];
  let finish: GreedyResult['finish'] = 'length';
  while (sequence.length < maxLength) {
    const logits = logitsAfter(model, sequence);
    const token = argmax(logits);
    sequence.push(token);
    margins.push(margin(logits));
    if (eosTokenIds.includes(token)) {
      finish = 'stop';
      break;
    }
  }
  return { tokens: sequence.slice(promptTokens.length), margins, finish };
}

/** Leviathan et al. 2023, greedy, with the limits of the engine; draft and target may be one and the same model. */
export function referenceSpeculative(
  target: ReferenceModel,
  draft: ReferenceModel,
  promptTokens: readonly number[],
  maxNewTokens: number,
  draftLength: number,
  eosTokenIds: readonly number[],
  contextLength: number = Math.min(target.config.maxContextLength, draft.config.maxContextLength),
): SpeculativeResult {
  const maxLength = lengthLimit(promptTokens, maxNewTokens, contextLength);
  const committed = [...promptTokens];
  const rounds: ReferenceRound[] = [];
  const commit = (drafts: readonly number[], targetTokens: readonly number[]): AcceptResult => {
    const limits = { committedLength: committed.length, maxLength, contextLength, stopTokenIds: eosTokenIds };
    const result = accept(drafts, targetTokens, limits);
    committed.push(...result.tokens);
    return result;
  };

  // The prompt's pass yields the first token: a commit without drafts that is no round.
  let { finish } = commit([], [argmax(logitsAfter(target, committed))]);
  while (finish === null) {
    const committedLength = committed.length;
    const drafts: number[] = [];
    for (let i = countDrafts(draftLength, committedLength, contextLength); i > 0; i--) {
      drafts.push(argmax(logitsAfter(draft, [...committed, ...drafts])));
    }
    // The last committed token is not in the target's cache yet: it leads the drafts.
    const verifyTokens = [committed[committedLength - 1]!, ...drafts]; // (K + 1,)
    const targetTokens = target.forward(verifyTokens, committedLength - 1).map(argmax); // (K + 1,)
    const result = commit(drafts, targetTokens);
    const { draftCount, acceptedCount } = result;
    rounds.push({ draftCount, acceptedCount, committedCount: result.tokens.length });
    finish = result.finish;
  }
  return { tokens: committed.slice(promptTokens.length), rounds, finish };
}

/**
 * For each token of a continuation that somebody else produced: how far its logit lies below the largest, given the
 * same tokens before it. 0 everywhere means it is a greedy decode; rounding elsewhere shows as small values.
 */
export function teacherForcedGaps(
  model: ReferenceModel,
  promptTokens: readonly number[],
  continuation: readonly number[],
): number[] {
  const sequence = [...promptTokens, ...continuation.slice(0, -1)];
  const rows = model.forward(sequence, 0).slice(promptTokens.length - 1);
  return continuation.map((token, i) => rows[i]![argmax(rows[i]!)]! - rows[i]![token]!);
}

/** Most committed tokens of a request. */
export function lengthLimit(promptTokens: readonly number[], maxNewTokens: number, contextLength: number): number {
  if (promptTokens.length === 0 || promptTokens.length >= contextLength) {
    throw new RangeError(`Expected a prompt of 1 to ${contextLength - 1} tokens, got ${promptTokens.length}.`);
  }
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 1) {
    throw new RangeError(`Expected maxNewTokens of 1 and up, got ${maxNewTokens}.`);
  }
  return Math.min(contextLength, promptTokens.length + maxNewTokens);
}
