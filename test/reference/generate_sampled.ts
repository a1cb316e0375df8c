/** Float64 twins of the generate loop with sampling: one token at a time, and the same by speculation. */
import { type AcceptResult, accept, acceptRejected, countDrafts } from './accept.ts';
import { argmax, margin } from './argmax.ts';
import type { ReferenceModel } from './forward.ts';
import { lengthLimit, logitsAfter, type ReferenceRound } from './generate.ts';
import { reject, type WarpedRow } from './reject.ts';
import { residual } from './residual.ts';
import { type Draw, sample } from './sample.ts';
import { type Purpose, purposes, type Seed } from './threefry.ts';
import { threshold } from './threshold.ts';
import { type SamplingOptions, warp } from './warp.ts';

export type SampledRequest = {
  promptTokens: readonly number[];
  maxNewTokens: number;
  contextLength: number;
  options: SamplingOptions;
  /** Null only where temperature 0 draws nothing. */
  seed: Seed | null;
};

export type SampledResult = {
  /** New tokens, a stop token included. */
  tokens: number[];
  /**
   * [i] = how clear a choice tokens[i] was: the smaller of the distance to the next best score and of what it would take
   * to keep other tokens. Rounding elsewhere decides where it is tiny.
   */
  margins: number[];
  finish: 'stop' | 'length';
};

export type SampledSpeculativeResult = Pick<SampledResult, 'tokens' | 'finish'> & {
  rounds: ReferenceRound[];
  /** The smallest margin of all choices, the draft's and the rejections included. */
  margin: number;
};

type Row = WarpedRow & { margin: number };

/** The warped row after a sequence; its prompt is the first `promptLength` tokens. */
function warpRow(
  logits: Float64Array,
  sequence: readonly number[],
  promptLength: number,
  request: SampledRequest,
): Row {
  const prompt = sequence.slice(0, promptLength);
  const warped = warp(logits, prompt, sequence.slice(promptLength), request.options);
  const { margin, ...distribution } = threshold(warped, request.options);
  return { warped, distribution, margin };
}

function choose(
  { warped, distribution, margin: keptMargin }: Row,
  request: SampledRequest,
  position: number,
  purpose: Purpose,
): Draw {
  if (request.options.temperature === 0) return { token: argmax(warped), margin: margin(warped) };
  const draw = sample(warped, distribution, seedOf(request), position, purpose);
  return { token: draw.token, margin: Math.min(draw.margin, keptMargin) };
}

function seedOf({ seed }: SampledRequest): Seed {
  if (seed === null) throw new RangeError('Expected a seed, as the temperature is above 0; got null.');
  return seed;
}

/** One token at a time: what a seeded request gives for any k and draft, and one at temperature 0 with penalties. */
export function referenceSampled(target: ReferenceModel, request: SampledRequest): SampledResult {
  const { promptTokens, maxNewTokens, contextLength, options } = request;
  const maxLength = lengthLimit(promptTokens, maxNewTokens, contextLength);
  const sequence = [...promptTokens];
  const margins: number[] = [];
  while (sequence.length < maxLength) {
    const row = warpRow(logitsAfter(target, sequence), sequence, promptTokens.length, request);
    const draw = choose(row, request, sequence.length, purposes.shared);
    sequence.push(draw.token);
    margins.push(draw.margin);
    if (options.stopTokenIds.includes(draw.token))
      return { tokens: sequence.slice(promptTokens.length), margins, finish: 'stop' };
  }
  return { tokens: sequence.slice(promptTokens.length), margins, finish: 'length' };
}

/**
 * By speculation. `coupled`: draft and target draw with the same noise, and equal tokens are accepted (a request with a
 * seed, or of temperature 0). `rejection`: Leviathan et al. 2023, Algorithm 1, from the seed that the engine drew.
 */
export function referenceSpeculativeSampled(
  target: ReferenceModel,
  draft: ReferenceModel,
  request: SampledRequest,
  draftLength: number,
  mode: 'coupled' | 'rejection',
): SampledSpeculativeResult {
  const { promptTokens, maxNewTokens, contextLength, options } = request;
  const maxLength = lengthLimit(promptTokens, maxNewTokens, contextLength);
  const committed = [...promptTokens];
  const rounds: ReferenceRound[] = [];
  let smallestMargin = Infinity;
  const weigh = <T extends { margin: number }>(choice: T): T => {
    smallestMargin = Math.min(smallestMargin, choice.margin);
    return choice;
  };

  const verify = (
    drafts: readonly number[],
    draftRows: readonly Row[],
    logits: readonly Float64Array[],
  ): AcceptResult => {
    const length = committed.length;
    const limits = { committedLength: length, maxLength, contextLength, stopTokenIds: options.stopTokenIds };
    const targetRows = logits.map((row, i) =>
      weigh(warpRow(row, [...committed, ...drafts.slice(0, i)], promptTokens.length, request)),
    ); // (K + 1,)
    let result: AcceptResult;
    if (mode === 'coupled') {
      const targetTokens = targetRows.map((row, i) => weigh(choose(row, request, length + i, purposes.shared)).token);
      result = accept(drafts, targetTokens, limits);
    } else {
      const seed = seedOf(request);
      const { acceptedCount } = weigh(reject(drafts, targetRows, draftRows, seed, length));
      const { token } = weigh(residual(drafts, acceptedCount, targetRows, draftRows, seed, length));
      result = acceptRejected(drafts, acceptedCount, token, limits);
    }
    committed.push(...result.tokens);
    return result;
  };

  // The prompt's pass yields the first token: a commit without drafts that is no round.
  let { finish } = verify([], [], [logitsAfter(target, committed)]);
  while (finish === null) {
    const length = committed.length;
    const drafts: number[] = [];
    const draftRows: Row[] = [];
    for (let i = countDrafts(draftLength, length, contextLength); i > 0; i--) {
      const sequence = [...committed, ...drafts];
      const row = weigh(warpRow(logitsAfter(draft, sequence), sequence, promptTokens.length, request));
      const purpose = mode === 'coupled' ? purposes.shared : purposes.draft;
      drafts.push(weigh(choose(row, request, sequence.length, purpose)).token);
      draftRows.push(row);
    }
    // The last committed token is not in the target's cache yet: it leads the drafts.
    const logits = target.forward([committed[length - 1]!, ...drafts], length - 1); // (K + 1, V)
    const { draftCount, acceptedCount, tokens, finish: roundFinish } = verify(drafts, draftRows, logits);
    rounds.push({ draftCount, acceptedCount, committedCount: tokens.length });
    finish = roundFinish;
  }
  return { tokens: committed.slice(promptTokens.length), rounds, finish, margin: smallestMargin };
}
