// State of one sequence, in its slot. It lives on the GPU, so that a round can be encoded before the record of the last one arrives.
const MAX_DRAFTS = 7u;
const MAX_STOP_TOKENS = 16u;
const RUNNING = 0u;
const FINISH_STOP = 1u;
const FINISH_LENGTH = 2u;
const SAMPLING_GREEDY = 0u;
const SAMPLING_SHAPED = 1u;  // the highest logit after penalties, bias and minNewTokens
const SAMPLING_SEEDED = 2u;  // with noise that draft and target share
const SAMPLING_RANDOM = 3u;  // drafts accepted by rejection sampling
const NO_TOKEN = 0xffffffffu;  // what argmax writes where no logit is finite

struct SequenceState {
  length: u32,           // committed tokens, n
  limit: u32,            // most committed tokens: min(context, prompt + maxNewTokens)
  contextLength: u32,
  finish: u32,           // RUNNING, FINISH_STOP or FINISH_LENGTH
  epoch: u32,            // counts requests, so that a late record is recognised
  roundIndex: u32,       // 0 is the prefill
  promptLength: u32,
  targetFed: u32,        // prompt tokens fed so far
  draftFed: u32,         // committed tokens whose keys and values the draft's cache holds: positions 0..draftFed-1
  draftCount: u32,       // drafts proposed in this round
  stopTokenCount: u32,
  logprobCount: u32,     // per token: 0, or its own logprob and those of the most likely tokens, 1..21
  drafts: array<u32, 8>,
  stopTokens: array<u32, 16>,
  inverseTemperature: f32,
  topK: u32,               // 0: off
  topP: f32,               // 1: off
  minP: f32,               // 0: off
  seedLow: u32,
  seedHigh: u32,
  repetitionPenalty: f32,  // 1: off
  presencePenalty: f32,
  frequencyPenalty: f32,
  minNewTokens: u32,
  acceptedCount: u32,      // by reject.wgsl, in this round
  hasAdjustments: u32,     // 1: penalties or a bias are in `adjustments`
  sampling: u32,           // SAMPLING_*
  turn: u32,               // 0: sits this round out; else its most drafts + 1. The host writes it before a round
  firstRow: u32,           // of the target's last pass
  draftRow: u32,           // output row of the draft model's last pass
  firstDraftRow: u32,      // of the distributions of this round's drafts
}
