/** Float64 twin of shaders/warp.wgsl: logits as the request wants them, before any token is dropped. */

/** The largest finite f32, negated: what a banned token's logit becomes, and the threshold that keeps every token. */
export const lowest = -3.4028234663852886e38;

/** The sampling options of a request, all of them given; `noWarping` has the values that change nothing. */
export type SamplingOptions = {
  /** 0 takes the most likely token, and scales nothing. */
  temperature: number;
  /** 0 is off. */
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  /** Token ids, each once, and what is added to their logits. */
  logitBias: [token: number, bias: number][];
  minNewTokens: number;
  /** End a sequence; not chosen before minNewTokens. */
  stopTokenIds: readonly number[];
};

export const noWarping: SamplingOptions = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  minNewTokens: 0,
  stopTokenIds: [],
};

/** Penalties by the tokens before (Keskar et al. 2019 for repetition), bias, temperature, then the banned stop tokens. */
export function warp(
  logits: Float64Array, // (V,)
  promptTokens: readonly number[],
  /** All tokens after the prompt that precede the one to be chosen: where drafts precede it, those too. */
  outputTokens: readonly number[],
  options: SamplingOptions,
): Float64Array {
  const { temperature, repetitionPenalty, presencePenalty, frequencyPenalty } = options;
  const warped = logits.slice();
  for (const token of new Set([...promptTokens, ...outputTokens])) {
    const logit = warped[token]!;
    warped[token] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
  }
  for (const token of new Set(outputTokens)) warped[token]! -= presencePenalty;
  for (const token of outputTokens) warped[token]! -= frequencyPenalty;
  for (const [token, bias] of options.logitBias) warped[token]! += bias;
  if (temperature > 0) for (let id = 0; id < warped.length; id++) warped[id]! /= temperature;
  if (outputTokens.length < options.minNewTokens) for (const token of options.stopTokenIds) warped[token] = lowest;
  return warped;
}
