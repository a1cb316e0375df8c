import { createStorage } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { spareRows } from '../model/kv_cache.ts';
import type { ParsedSampling } from '../sampling_options.ts';

/** Word index of each field of `SequenceState` (shaders/lib/state.wgsl). */
export const stateFields = {
  length: 0,
  limit: 1,
  contextLength: 2,
  finish: 3,
  epoch: 4,
  roundIndex: 5,
  promptLength: 6,
  targetFed: 7,
  draftFed: 8,
  draftCount: 9,
  stopTokenCount: 10,
  logprobCount: 11,
  drafts: 12,
  stopTokens: 20,
  inverseTemperature: 36,
  topK: 37,
  topP: 38,
  minP: 39,
  seedLow: 40,
  seedHigh: 41,
  repetitionPenalty: 42,
  presencePenalty: 43,
  frequencyPenalty: 44,
  minNewTokens: 45,
  acceptedCount: 46,
  hasAdjustments: 47,
  sampling: 48,
  turn: 49,
  firstRow: 50,
  draftRow: 51,
  firstDraftRow: 52,
} as const;
export const stateWords = 53;

/**
 * How tokens are chosen from logits. `greedy`: the highest logit. `shaped`: the highest after penalties, bias and
 * minNewTokens. `seeded`: sampled with noise that draft and target share. `random`: each with its own noise, drafts
 * accepted by Algorithm 1 of Leviathan et al. 2023. From the simplest to what can stand for those before it.
 */
export const samplingModes = ['greedy', 'shaped', 'seeded', 'random'] as const;
export type SamplingMode = (typeof samplingModes)[number];

export function samplingMode(sampling: ParsedSampling): SamplingMode {
  if (sampling.temperature > 0) return sampling.seed === null ? 'random' : 'seeded';
  return hasAdjustments(sampling) || sampling.minNewTokens > 0 ? 'shaped' : 'greedy';
}

/** Bit of an adjustment's count that marks the tokens of the prompt (shaders/warp.wgsl). */
const promptBit = 0x8000_0000;

/** Where the sequences live: their state, their committed tokens, and what their requests do to the logits. */
export type Sequences = {
  state: GPUBuffer; // (slots,) SequenceState
  history: GPUBuffer; // (slots, contextLength + 8) u32
  historyStride: number;
  contextLength: number;
  adjustments: GPUBuffer; // (slots, V) of (output count and prompt bit, bias) u32
  vocabSize: number;
  slots: number;
  /** [slot] = the turn that its state has: 0 sits out, else drafts + 1. */
  turns: number[];
};

/** What a sequence starts from. */
export type SequenceStart = {
  promptTokens: readonly number[];
  /** What was committed before the device was lost; fed like the prompt. */
  emittedTokens: readonly number[];
  /** The first of them that each model's cache holds already. */
  targetFed: number;
  draftFed: number;
  /** Most committed tokens, prompt included. */
  limit: number;
  stopTokens: readonly number[];
  sampling: ParsedSampling;
  logprobs: boolean;
  /** Most likely tokens to report with the logprobs, 0..20. */
  topLogprobs: number;
};

export function createSequences(
  gpu: Gpu,
  { slots, contextLength, vocabSize }: { slots: number; contextLength: number; vocabSize: number },
): Sequences {
  const historyStride = contextLength + spareRows;
  return {
    state: createStorage(gpu, 'sequence state', slots * stateWords * 4),
    history: createStorage(gpu, 'history', slots * historyStride * 4),
    historyStride,
    contextLength,
    adjustments: createStorage(gpu, 'adjustments', slots * vocabSize * 8),
    vocabSize,
    slots,
    turns: new Array<number>(slots).fill(0),
  };
}

/** Whether single tokens' logits are moved: by a penalty or a bias. */
export function hasAdjustments({
  repetitionPenalty,
  presencePenalty,
  frequencyPenalty,
  logitBias,
}: ParsedSampling): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0 || logitBias.length > 0;
}

/** Who takes part in what is submitted next: [slot] = its most drafts; without an entry it sits out. Writes what changed. */
export function setTurns(gpu: Gpu, { state, turns }: Sequences, draftLengths: ReadonlyMap<number, number>): void {
  for (const [slot, turn] of turns.entries()) {
    const next = (draftLengths.get(slot) ?? -1) + 1;
    if (next === turn) continue;
    turns[slot] = next;
    gpu.device.queue.writeBuffer(state, (slot * stateWords + stateFields.turn) * 4, Uint32Array.of(next));
  }
}

/** Starts a sequence in `slot`: writes its prompt and a fresh state behind all work submitted so far. */
export function startSequence(
  gpu: Gpu,
  { state, history, historyStride, contextLength, adjustments, vocabSize, turns }: Sequences,
  slot: number,
  epoch: number,
  {
    promptTokens,
    emittedTokens,
    targetFed,
    draftFed,
    limit,
    stopTokens,
    sampling,
    logprobs,
    topLogprobs,
  }: SequenceStart,
): void {
  const words = new Uint32Array(stateWords);
  const floats = new Float32Array(words.buffer);
  const adjusts = hasAdjustments(sampling);
  const tokens = [...promptTokens, ...emittedTokens];
  words[stateFields.length] = tokens.length;
  words[stateFields.limit] = limit;
  words[stateFields.contextLength] = contextLength;
  words[stateFields.epoch] = epoch;
  words[stateFields.promptLength] = tokens.length;
  words[stateFields.targetFed] = targetFed;
  words[stateFields.draftFed] = draftFed;
  words[stateFields.stopTokenCount] = stopTokens.length;
  words[stateFields.logprobCount] = logprobs ? topLogprobs + 1 : 0;
  words.set(stopTokens, stateFields.stopTokens);
  floats[stateFields.inverseTemperature] = sampling.temperature > 0 ? 1 / sampling.temperature : 1;
  words[stateFields.topK] = sampling.topK;
  floats[stateFields.topP] = sampling.topP;
  floats[stateFields.minP] = sampling.minP;
  const [seedLow, seedHigh] = seedWords(sampling.seed);
  words[stateFields.seedLow] = seedLow;
  words[stateFields.seedHigh] = seedHigh;
  floats[stateFields.repetitionPenalty] = sampling.repetitionPenalty;
  floats[stateFields.presencePenalty] = sampling.presencePenalty;
  floats[stateFields.frequencyPenalty] = sampling.frequencyPenalty;
  words[stateFields.minNewTokens] = Math.max(0, sampling.minNewTokens - emittedTokens.length);
  words[stateFields.hasAdjustments] = Number(adjusts);
  words[stateFields.sampling] = samplingModes.indexOf(samplingMode(sampling));
  turns[slot] = 0;
  const { queue } = gpu.device;
  queue.writeBuffer(history, slot * historyStride * 4, Uint32Array.from(tokens));
  queue.writeBuffer(state, slot * stateWords * 4, words);
  if (adjusts) {
    const words = adjustmentWords(vocabSize, promptTokens, emittedTokens, sampling.logitBias);
    queue.writeBuffer(adjustments, slot * vocabSize * 8, words);
  }
}

/** A seed as the two words of the generator's key; without one, fresh random words. */
function seedWords(seed: number | null): [number, number] {
  if (seed !== null) return [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
  const [low, high] = crypto.getRandomValues(new Uint32Array(2));
  return [low as number, high as number];
}

function adjustmentWords(
  vocabSize: number,
  promptTokens: readonly number[],
  emittedTokens: readonly number[],
  logitBias: readonly (readonly [number, number])[],
): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(vocabSize * 2);
  const floats = new Float32Array(words.buffer);
  for (const token of promptTokens) words[token * 2] = promptBit;
  for (const token of emittedTokens) words[token * 2] = (words[token * 2] as number) + 1;
  for (const [token, bias] of logitBias) floats[token * 2 + 1] = bias;
  return words;
}
