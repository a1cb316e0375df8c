/** `engine.chat`: conversations in the shapes of the OpenAI API, over `generate`. The same code on the page and in the engine. */
import { parseChatRequest, parseChatRequestOptions, parseMessages } from './chat_options.ts';
import type {
  Chat,
  ChatChoice,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionStream,
  ChatLogprobs,
  ChatPrompt,
  ChatTopLogprob,
  ChatUsage,
  ChatUsageExtra,
  PlainChatMessage,
} from './chat_types.ts';
import { InvalidOptionError } from './errors.ts';
import type {
  EngineInfo,
  GenerateOptions,
  GenerateResult,
  GenerateRun,
  Logprob,
  MetaInfo,
  TokenLogprob,
} from './types.ts';

export type ChatParts = {
  /** `model` of the responses, where the request names none. */
  modelName: string;
  info: Pick<EngineInfo, 'contextLength' | 'target'>;
  generate(prompt: readonly number[], options: GenerateOptions): GenerateRun;
  /** Renders and tokenises, where the model is. */
  applyTemplate(messages: readonly PlainChatMessage[]): Promise<ChatPrompt>;
};

export function createChat({ modelName, info, generate, applyTemplate }: ChatParts): Chat {
  async function create(raw: unknown, rawOptions?: unknown): Promise<ChatCompletion | ChatCompletionStream> {
    const request = parseChatRequest(raw, info);
    const { signal } = parseChatRequestOptions(rawOptions);
    signal?.throwIfAborted();
    const { tokens } = await applyTemplate(request.messages);
    signal?.throwIfAborted();
    const controller = new AbortController();
    const runSignal = signal === null ? controller.signal : AbortSignal.any([signal, controller.signal]);
    const runs: GenerateRun[] = [];
    try {
      // They begin alike, so the engine feeds the prompt once.
      for (let i = 0; i < request.n; i++) {
        runs.push(generate(tokens, { ...request.options, ...seedOf(request.options, i), signal: runSignal }));
      }
    } catch (error) {
      controller.abort(error);
      throw request.translate(error);
    }
    const { ignoreEos, stopTokenIds = [] } = request.options;
    const answer: Answer = {
      frame: {
        id: `chatcmpl-${randomId()}`,
        created: Math.floor(Date.now() / 1000),
        model: request.model ?? modelName,
      },
      stopTokens: new Set([...(ignoreEos ? [] : info.target.eosTokenIds), ...stopTokenIds]),
    };
    if (request.stream) return createStream(runs, answer, request.includeUsage, controller);
    try {
      const results = await Promise.all(runs.map(({ result }) => result));
      // Nobody but the caller's signal can have aborted them.
      if (results.some(({ meta_info: meta }) => meta.finish_reason.type === 'abort')) throw runSignal.reason;
      return completion(results, answer);
    } catch (error) {
      controller.abort(error); // one failed: nobody will read the others
      throw error;
    }
  }
  return {
    completions: { create: create as Chat['completions']['create'] },
    applyTemplate: async (messages) => applyTemplate(parseMessages(messages)),
  };
}

/** Of answer i: the given seed and i more, in the range of seeds. */
function seedOf({ seed }: GenerateOptions, i: number): { seed?: number } {
  if (i === 0 || !Number.isSafeInteger(seed)) return {}; // what is no seed is for `generate` to refuse
  const room = Number.MAX_SAFE_INTEGER - (seed as number);
  return { seed: i <= room ? (seed as number) + i : i - room - 1 };
}

type Answer = {
  /** What all chunks have in common. */
  frame: { id: string; created: number; model: string };
  /** One of these tokens ends the answer. */
  stopTokens: ReadonlySet<number>;
};

function completion(results: readonly GenerateResult[], answer: Answer): ChatCompletion {
  const choices = results.map((result, index): ChatChoice => {
    const { text, meta_info: meta } = result;
    return {
      index,
      message: { role: 'assistant', content: text, refusal: null },
      logprobs: chatLogprobs(result, answer),
      finish_reason: meta.finish_reason.type === 'length' ? 'length' : 'stop',
    };
  });
  return {
    ...answer.frame,
    object: 'chat.completion',
    choices: choices as ChatCompletion['choices'],
    usage: usageOf(results),
  };
}

type Choice = ChatCompletionChunk['choices'][number];

function createStream(
  runs: readonly GenerateRun[],
  answer: Answer,
  includeUsage: boolean,
  controller: AbortController,
): ChatCompletionStream {
  const chunk = (choice: Partial<Choice> | null, usage: ChatUsage | null = null): ChatCompletionChunk => ({
    ...answer.frame,
    object: 'chat.completion.chunk',
    choices: choice === null ? [] : [{ index: 0, delta: {}, logprobs: null, finish_reason: null, ...choice }],
    ...(includeUsage && { usage }),
  });
  async function* choicesOf(run: GenerateRun, index: number): AsyncGenerator<Partial<Choice>, void, undefined> {
    yield { index, delta: { role: 'assistant', content: '' } };
    for await (const round of run) {
      const logprobs = chatLogprobs(round, answer);
      if (round.text === '' && !logprobs?.content.length) continue;
      yield { index, delta: { content: round.text }, logprobs };
    }
    const { finish_reason: reason } = (await run.result).meta_info;
    // As in the openai package, a stream that was aborted ends, and throws nothing.
    if (reason.type !== 'abort') yield { index, finish_reason: reason.type };
  }
  async function* chunks(): AsyncGenerator<ChatCompletionChunk, void, undefined> {
    let ended = false;
    try {
      for await (const choice of merged(runs.map(choicesOf))) yield chunk(choice);
      const results = await Promise.all(runs.map(({ result }) => result));
      ended = true;
      const isAborted = results.some(({ meta_info: meta }) => meta.finish_reason.type === 'abort');
      if (includeUsage && !isAborted) yield chunk(null, usageOf(results));
    } finally {
      if (!ended) controller.abort(new Error('The stream was left before its end.'));
    }
  }
  let iterated = false;
  return {
    controller,
    [Symbol.asyncIterator]() {
      if (iterated) {
        throw new InvalidOptionError(
          'Expected a stream to be iterated at most once, got a second iteration. Its chunks are gone: keep them while iterating.',
        );
      }
      iterated = true;
      return chunks();
    },
  };
}

/** What several iterations give, as it comes. The first that fails ends it. */
async function* merged<T>(sources: readonly AsyncGenerator<T, void, undefined>[]): AsyncGenerator<T, void, undefined> {
  type Source = (typeof sources)[number];
  const pending = new Map<Source, Promise<{ source: Source; step: IteratorResult<T, void> }>>();
  const pull = (source: Source): void => {
    const next = source.next().then((step) => ({ source, step }));
    next.catch(() => {}); // behind the failure of another it is nobody's
    pending.set(source, next);
  };
  sources.forEach(pull);
  try {
    while (pending.size > 0) {
      const { source, step } = await Promise.race(pending.values());
      pending.delete(source);
      if (step.done) continue;
      yield step.value;
      pull(source); // after the others that are ready
    }
  } finally {
    for (const source of sources) source.return().catch(() => {});
  }
}

/** Without the token that ended the request, as the text is. */
function chatLogprobs({ logprobs }: { logprobs?: TokenLogprob[] }, { stopTokens }: Answer): ChatLogprobs | null {
  if (logprobs === undefined) return null;
  const told = logprobs.filter(({ token }) => !stopTokens.has(token));
  const content = told.map((entry) => ({ ...chatLogprob(entry), top_logprobs: entry.top.map(chatLogprob) }));
  return { content, refusal: null };
}

const chatLogprob = ({ text, bytes, logprob }: Logprob): ChatTopLogprob => ({ token: text, logprob, bytes });

/** The `spec_*` keys of several answers. */
function specSums(results: readonly GenerateResult[]): Partial<ChatUsageExtra> {
  const sum = (key: 'verifyCount' | 'plainCount' | 'draftedCount' | 'acceptedCount'): number =>
    results.reduce((total, { stats }) => total + stats[key], 0);
  const [verifyCount, plainCount] = [sum('verifyCount'), sum('plainCount')];
  if (verifyCount === 0) return {};
  const completionTokens = results.reduce((total, { meta_info: meta }) => total + meta.completion_tokens, 0);
  const histogram: number[] = [];
  for (const { meta_info: meta } of results) {
    for (const [i, count] of (meta.spec_correct_drafts_histogram ?? []).entries()) {
      histogram[i] = (histogram[i] ?? 0) + count;
    }
  }
  return {
    spec_verify_ct: verifyCount,
    spec_plain_ct: plainCount,
    spec_num_proposed_drafts: sum('draftedCount'),
    spec_num_correct_drafts: sum('acceptedCount'),
    spec_accept_rate: sum('acceptedCount') / sum('draftedCount'),
    spec_accept_length: (completionTokens - plainCount) / verifyCount,
    spec_correct_drafts_histogram: histogram,
  };
}

const specOf = (meta: MetaInfo): Partial<ChatUsageExtra> =>
  Object.fromEntries(Object.entries(meta).filter(([key]) => key.startsWith('spec_')));

function usageOf(results: readonly GenerateResult[]): ChatUsage {
  const [{ stats, meta_info: meta }] = results as [GenerateResult];
  const sum = (value: (result: GenerateResult) => number): number =>
    results.reduce((total, result) => total + value(result), 0);
  const completionTokens = sum(({ meta_info: { completion_tokens: count } }) => count);
  const longestMs = Math.max(...results.map(({ stats: { decodeTimeMs } }) => decodeTimeMs));
  const isTimed = longestMs > 0 && completionTokens > results.length;
  return {
    prompt_tokens: meta.prompt_tokens,
    completion_tokens: completionTokens,
    total_tokens: meta.prompt_tokens + completionTokens,
    prompt_tokens_details: { cached_tokens: meta.cached_tokens },
    extra: {
      ...(results.length === 1 ? specOf(meta) : specSums(results)),
      queue_ms: stats.queueTimeMs,
      prompt_n: meta.prompt_tokens - meta.cached_tokens,
      prompt_ms: stats.timeToFirstTokenMs,
      predicted_n: completionTokens,
      predicted_ms: longestMs,
      predicted_per_second:
        results.length === 1
          ? stats.tokensPerSecond
          : isTimed
            ? ((completionTokens - results.length) * 1000) / longestMs
            : null,
    },
  };
}
/** `crypto.randomUUID` exists in secure contexts only. */
function randomId(): string {
  const words = crypto.getRandomValues(new Uint32Array(4));
  return [...words].map((word) => word.toString(16).padStart(8, '0')).join('');
}
