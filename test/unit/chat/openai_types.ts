/**
 * Our types against those of the `openai` package. Nothing here runs: `tsc` checks it (`npm run check:types`), as what
 * each line says is about types alone.
 */
import type OpenAI from 'openai';
import type {
  Chat,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatCompletionStream,
  ChatMessage,
} from '../../../src/chat_types.ts';

type Theirs = OpenAI.ChatCompletionCreateParams;
type Text = string | OpenAI.ChatCompletionContentPartText[];
type Assignable<From extends To, To> = [From, To];

/** Responses: code that was written for theirs reads ours. */
export type Responses = [
  Assignable<ChatCompletion, OpenAI.ChatCompletion>,
  Assignable<ChatCompletionChunk, OpenAI.ChatCompletionChunk>,
  Assignable<NonNullable<ChatCompletionChunk['usage']>, OpenAI.CompletionUsage>,
  Assignable<ChatCompletion['choices'][0]['message'], OpenAI.ChatCompletionMessage>,
  Assignable<ChatCompletionStream, AsyncIterable<OpenAI.ChatCompletionChunk> & { controller: AbortController }>,
];

/** Requests: what theirs takes, ours takes, key by key, where it is supported at all. */
type Supported =
  | 'model'
  | 'max_tokens'
  | 'max_completion_tokens'
  | 'temperature'
  | 'top_p'
  | 'stop'
  | 'seed'
  | 'presence_penalty'
  | 'frequency_penalty'
  | 'logit_bias'
  | 'logprobs'
  | 'top_logprobs'
  | 'stream'
  | 'n'
  | 'user';
export type Requests = [
  Assignable<Pick<Theirs, Supported>, Pick<ChatCompletionRequest, Supported>>,
  Assignable<{ include_usage?: boolean }, NonNullable<ChatCompletionRequest['stream_options']>>,
  Assignable<OpenAI.ResponseFormatText, NonNullable<ChatCompletionRequest['response_format']>>,
  Assignable<OpenAI.ChatCompletionSystemMessageParam, ChatMessage>,
  Assignable<OpenAI.ChatCompletionDeveloperMessageParam, ChatMessage>,
  Assignable<OpenAI.ChatCompletionUserMessageParam & { content: Text }, ChatMessage>,
  Assignable<OpenAI.ChatCompletionToolMessageParam, ChatMessage>,
  Assignable<Pick<OpenAI.ChatCompletionAssistantMessageParam, 'role' | 'name'> & { content: Text }, ChatMessage>,
];

/** And the other way round: a request for us, without what SGLang and vLLM add, is one for them. */
const conversation = [
  { role: 'system', content: 'Be terse.' },
  { role: 'user', content: [{ type: 'text', text: 'Hello' }] },
  { role: 'assistant', content: 'Hi' },
  { role: 'user', content: 'Bye', name: 'Ada' },
] satisfies ChatMessage[] satisfies OpenAI.ChatCompletionMessageParam[];
export const request = {
  model: 'tiny',
  messages: conversation,
  max_completion_tokens: 20,
  temperature: 0.5,
  stop: ['\n'],
  logit_bias: { 5: 1 },
  logprobs: true,
  top_logprobs: 2,
  n: 1,
  response_format: { type: 'text' },
  seed: null,
} satisfies ChatCompletionRequest satisfies OpenAI.ChatCompletionCreateParamsNonStreaming;

/** The result follows `stream`, and code that reads theirs reads it. */
export async function results(completions: Chat['completions'], stream: boolean) {
  const whole: OpenAI.ChatCompletion = await completions.create(request);
  const pieces: AsyncIterable<OpenAI.ChatCompletionChunk> = await completions.create({ ...request, stream: true });
  const either: ChatCompletion | ChatCompletionStream = await completions.create({ ...request, stream });
  return { whole, pieces, either };
}

/** What is not supported is an error of the compiler as well. */
export function refused(completions: Chat['completions']): void {
  const messages = conversation;
  // @ts-expect-error
  completions.create({ messages, tools: [] });
  // @ts-expect-error
  completions.create({ messages, response_format: { type: 'json_object' } });
  // @ts-expect-error
  completions.create({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: '' } }] }] });
  // @ts-expect-error
  completions.create({ messages, maxTokens: 5 });
}
