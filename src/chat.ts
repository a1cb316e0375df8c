/** `engine.chat`: conversations in the shapes of the OpenAI API, over `generate`. The same code on the page and in the engine. */
import { parseChatRequest, parseChatRequestOptions, parseMessages } from './chat_options.ts';
import type {
  Chat,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionStream,
  ChatLogprobs,
  ChatPrompt,
  ChatTopLogprob,
  ChatUsage,
  PlainChatMessage,
} from './chat_types.ts';
import { InvalidOptionError } from './errors.ts';
import type { EngineInfo, GenerateOptions, GenerateResult, GenerateRun, Logprob, TokenLogprob } from './types.ts';

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
    let run: GenerateRun;
    try {
      run = generate(tokens, { ...request.options, signal: runSignal });
    } catch (error) {
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
    if (request.stream) return createStream(run, answer, request.includeUsage, controller);
    const result = await run.result;
    // Nobody but the caller's signal can have aborted it.
    if (result.meta_info.finish_reason.type === 'abort') throw runSignal.reason;
    return completion(result, answer);
  }
  return {
    completions: { create: create as Chat['completions']['create'] },
    applyTemplate: async (messages) => applyTemplate(parseMessages(messages)),
  };
}

type Answer = {
  /** What all chunks have in common. */
  frame: { id: string; created: number; model: string };
  /** One of these tokens ends the answer. */
  stopTokens: ReadonlySet<number>;
};

function completion(result: GenerateResult, answer: Answer): ChatCompletion {
  const { text, meta_info: meta } = result;
  return {
    ...answer.frame,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: chatLogprobs(result, answer),
        finish_reason: meta.finish_reason.type === 'length' ? 'length' : 'stop',
      },
    ],
    usage: usageOf(result),
  };
}

function createStream(
  run: GenerateRun,
  answer: Answer,
  includeUsage: boolean,
  controller: AbortController,
): ChatCompletionStream {
  type Choice = ChatCompletionChunk['choices'][number];
  const chunk = (choice: Partial<Choice> | null, usage: ChatUsage | null = null): ChatCompletionChunk => ({
    ...answer.frame,
    object: 'chat.completion.chunk',
    choices: choice === null ? [] : [{ index: 0, delta: {}, logprobs: null, finish_reason: null, ...choice }],
    ...(includeUsage && { usage }),
  });
  async function* chunks(): AsyncGenerator<ChatCompletionChunk, void, undefined> {
    let ended = false;
    try {
      yield chunk({ delta: { role: 'assistant', content: '' } });
      for await (const round of run) {
        const logprobs = chatLogprobs(round, answer);
        if (round.text === '' && !logprobs?.content.length) continue;
        yield chunk({ delta: { content: round.text }, logprobs });
      }
      const result = await run.result;
      const { finish_reason: reason } = result.meta_info;
      ended = true;
      // As in the openai package, a stream that was aborted ends, and throws nothing.
      if (reason.type === 'abort') return;
      yield chunk({ finish_reason: reason.type });
      if (includeUsage) yield chunk(null, usageOf(result));
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

/** Without the token that ended the request, as the text is. */
function chatLogprobs({ logprobs }: { logprobs?: TokenLogprob[] }, { stopTokens }: Answer): ChatLogprobs | null {
  if (logprobs === undefined) return null;
  const told = logprobs.filter(({ token }) => !stopTokens.has(token));
  const content = told.map((entry) => ({ ...chatLogprob(entry), top_logprobs: entry.top.map(chatLogprob) }));
  return { content, refusal: null };
}

const chatLogprob = ({ text, bytes, logprob }: Logprob): ChatTopLogprob => ({ token: text, logprob, bytes });

function usageOf({ stats, meta_info: meta }: GenerateResult): ChatUsage {
  const spec = Object.fromEntries(Object.entries(meta).filter(([key]) => key.startsWith('spec_')));
  return {
    prompt_tokens: meta.prompt_tokens,
    completion_tokens: meta.completion_tokens,
    total_tokens: meta.prompt_tokens + meta.completion_tokens,
    prompt_tokens_details: { cached_tokens: meta.cached_tokens },
    extra: {
      ...spec,
      queue_ms: stats.queueTimeMs,
      prompt_n: meta.prompt_tokens - meta.cached_tokens,
      prompt_ms: stats.timeToFirstTokenMs,
      predicted_n: meta.completion_tokens,
      predicted_ms: stats.decodeTimeMs,
      predicted_per_second: stats.tokensPerSecond,
    },
  };
}

/** `crypto.randomUUID` exists in secure contexts only. */
function randomId(): string {
  const words = crypto.getRandomValues(new Uint32Array(4));
  return [...words].map((word) => word.toString(16).padStart(8, '0')).join('');
}
