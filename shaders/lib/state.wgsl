// State of one sequence. It lives on the GPU, so that a round can be encoded before the record of the last one arrives.
const MAX_DRAFTS = 7u;
const MAX_STOP_TOKENS = 16u;
const RUNNING = 0u;
const FINISH_STOP = 1u;
const FINISH_LENGTH = 2u;
const NO_TOKEN = 0xffffffffu;  // what argmax writes where no logit is finite

struct SequenceState {
  length: u32,           // committed tokens, n
  limit: u32,            // most committed tokens: min(context, prompt + maxNewTokens)
  contextLength: u32,
  finish: u32,           // RUNNING, FINISH_STOP or FINISH_LENGTH
  epoch: u32,            // counts requests, so that a late record is recognised
  roundIndex: u32,       // 0 is the prefill
  promptLength: u32,
  targetPrefilled: u32,  // prompt tokens fed so far
  draftPrefilled: u32,
  draftCount: u32,       // drafts proposed in this round
  stopTokenCount: u32,
  reserved: u32,
  drafts: array<u32, 8>,
  stopTokens: array<u32, 16>,
}
