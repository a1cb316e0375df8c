/** Chats in the shapes of the OpenAI API (`chat.completions`), whose names are written in snake_case there and so here. */

export type ChatTextPart = { type: 'text'; text: string };
/** A text, or text parts, which are joined by line breaks. */
export type ChatContent = string | readonly ChatTextPart[];

/** Which roles a model takes, and in which order, is for its chat template to say. */
export type ChatMessage =
  /** `developer` is `system` for a template that does not know it. */
  | { role: 'system' | 'developer' | 'user'; content: ChatContent; name?: string | null }
  | {
      role: 'assistant';
      content: ChatContent;
      name?: string | null;
      /** What a reasoning model thought (as vLLM spells it), for templates that repeat it. */
      reasoning_content?: string | null;
      /** Always null in messages of this library, which may be passed back as they are. */
      refusal?: null;
    }
  | { role: 'tool'; content: ChatContent; tool_call_id?: string | null; name?: string | null };

/** What a chat template reads of a message. */
export type PlainChatMessage = { role: ChatMessage['role']; content: string } & {
  [Key in 'name' | 'reasoning_content' | 'tool_call_id']?: string;
};

/**
 * A request of `chat.completions.create`. null means not given. What the OpenAI API has and this type has not (tools,
 * audio, JSON schemas and so on) is refused by name.
 */
export type ChatCompletionRequest = {
  messages: readonly ChatMessage[];
  /** Comes back in the response, and is otherwise ignored: an engine has one model. */
  model?: string | null;
  /** Answers piece by piece. Default false. */
  stream?: boolean | null;
  /** `include_usage`: a last chunk tells the usage. Needs `stream`. */
  stream_options?: { include_usage?: boolean | null } | null;
  /** Most tokens to emit. Default: until the context is full. */
  max_completion_tokens?: number | null;
  /** The older name of `max_completion_tokens`. */
  max_tokens?: number | null;
  /** 0 to 100, as in `generate`, but 1 by default. */
  temperature?: number | null;
  top_p?: number | null;
  stop?: string | readonly string[] | null;
  /** With `n` above 1, answer i is what a request of its own with the seed `seed` + i gives. */
  seed?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  /** −100 to 100 by token id. */
  logit_bias?: Readonly<Record<string, number>> | null;
  logprobs?: boolean | null;
  /** 0 to 20; needs `logprobs`. */
  top_logprobs?: number | null;
  /** Answers to make, 1 (the default) to 128, at once as far as there is room. The conversation is fed once for all. */
  n?: number | null;
  response_format?: { type: 'text' } | null;
  /** Ignored. */
  user?: string | null;
  // Not of OpenAI: as SGLang and vLLM spell them, with the meaning that they have in `generate`.
  top_k?: number | null;
  min_p?: number | null;
  repetition_penalty?: number | null;
  min_tokens?: number | null;
  stop_token_ids?: readonly number[] | null;
  ignore_eos?: boolean | null;
  /** Of requests that wait, those with a higher number start first. Default 0. */
  priority?: number | null;
  /** Draft tokens per round (k), 0 to 7 or `'auto'`, as `draftLength` of `generate`. */
  draft_length?: number | 'auto' | null;
};

export type ChatRequestOptions = {
  /** Aborts the request: a promise rejects with the signal's reason, a stream ends without a `finish_reason`. */
  signal?: AbortSignal | null;
};

export type ChatTopLogprob = {
  token: string;
  /** UTF-8, where half a character shows as U+FFFD in `token`; null where a tokenizer of the caller's does not tell. */
  bytes: number[] | null;
  /** Natural logarithm of the probability under the model itself, before penalties, bias, temperature and filters. */
  logprob: number;
};
export type ChatTokenLogprob = ChatTopLogprob & { top_logprobs: ChatTopLogprob[] };
/** One entry for each emitted token but the one that ended the request. */
export type ChatLogprobs = { content: ChatTokenLogprob[]; refusal: null };

export type ChatFinishReason = 'stop' | 'length';

/**
 * Keys of `meta_info` (docs/metrics.md), absent when no draft was proposed, and times as llama.cpp's server names them. Of
 * `n` answers counts are sums and rates those of the sums; `prompt_n` and the times up to the first token are those of the
 * first answer, `predicted_ms` is the longest.
 */
export type ChatUsageExtra = {
  spec_verify_ct?: number;
  spec_plain_ct?: number;
  spec_num_proposed_drafts?: number;
  spec_num_correct_drafts?: number;
  spec_accept_rate?: number;
  spec_accept_length?: number;
  spec_correct_drafts_histogram?: number[];
  /** With `n` above 1 absent. */
  spec_accept_rate_per_pos?: number[];
  /** From the call until the engine began with it. */
  queue_ms: number;
  /** Prompt tokens that were computed, not reused. */
  prompt_n: number;
  /** From the start of work to the first token. */
  prompt_ms: number;
  predicted_n: number;
  /** From the first token to the last. */
  predicted_ms: number;
  /** Tokens after the first / `predicted_ms`; null for fewer than two tokens. */
  predicted_per_second: number | null;
};

export type ChatUsage = {
  /** Once, whatever `n`. */
  prompt_tokens: number;
  /** Emitted tokens of all answers, those that ended them included. */
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  extra: ChatUsageExtra;
};

export type ChatChoice = {
  index: number;
  message: { role: 'assistant'; content: string; refusal: null };
  logprobs: ChatLogprobs | null;
  finish_reason: ChatFinishReason;
};

export type ChatCompletion = {
  id: string;
  object: 'chat.completion';
  /** Seconds since 1970. */
  created: number;
  model: string;
  /** `n` of them, by their index. */
  choices: [ChatChoice, ...ChatChoice[]];
  usage: ChatUsage;
};

export type ChatCompletionChunk = {
  id: string;
  object: 'chat.completion.chunk';
  created: number;
  model: string;
  /** None in the chunk that tells the usage. */
  choices: {
    index: number;
    /** Of each answer the role comes first, then texts, then nothing together with the `finish_reason`. */
    delta: { role?: 'assistant'; content?: string };
    logprobs: ChatLogprobs | null;
    finish_reason: ChatFinishReason | null;
  }[];
  /** Present with `include_usage`: null in all chunks but the last. */
  usage?: ChatUsage | null;
};

/** Iterate once. Leaving the loop early, or `controller.abort()`, aborts the request. It runs on when nobody iterates. */
export type ChatCompletionStream = AsyncIterable<ChatCompletionChunk> & { readonly controller: AbortController };

/** A conversation as the model reads it: the chat template's text, which ends where the answer begins, and its tokens. */
export type ChatPrompt = { text: string; tokens: number[] };

export type Chat = {
  readonly completions: {
    create(
      request: ChatCompletionRequest & { stream: true },
      options?: ChatRequestOptions,
    ): Promise<ChatCompletionStream>;
    create(
      request: ChatCompletionRequest & { stream?: false | null },
      options?: ChatRequestOptions,
    ): Promise<ChatCompletion>;
    create(
      request: ChatCompletionRequest,
      options?: ChatRequestOptions,
    ): Promise<ChatCompletion | ChatCompletionStream>;
  };
  /** Renders and tokenises without generating, for instance to see how much of a conversation fits the context. */
  applyTemplate(messages: readonly ChatMessage[]): Promise<ChatPrompt>;
};
