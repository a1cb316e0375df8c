import { describe, expect, test } from 'vitest';
import type {
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatCompletionStream,
  ChatMessage,
} from '../../../src/chat_types.ts';
import { InvalidOptionError, NonFiniteLogitsError } from '../../../src/errors.ts';
import { settled, watchRejections } from '../client/fixtures.ts';
import { logprobOf, type ScriptedAnswer, scriptedChat } from './scripted_chat.ts';

const messages: ChatMessage[] = [{ role: 'user', content: 'Hello' }];
/** Three rounds, the second of which shows nothing yet, ended by the end-of-sequence token. */
const answer: ScriptedAnswer = {
  rounds: [
    { text: 'Hi', tokens: [2] },
    { text: '', tokens: [3] },
    { text: ' the🐶re', tokens: [4, 5, 1] },
  ],
  finish: { type: 'stop', matched: 1 },
  meta: {
    prompt_tokens: 3,
    completion_tokens: 5,
    cached_tokens: 2,
    spec_verify_ct: 1,
    spec_plain_ct: 1,
    spec_accept_rate: 0.5,
    spec_correct_drafts_histogram: [0, 1],
  },
  stats: { queueTimeMs: 1, timeToFirstTokenMs: 2, decodeTimeMs: 8, tokensPerSecond: 500 },
};
const usage = {
  prompt_tokens: 3,
  completion_tokens: 5,
  total_tokens: 8,
  prompt_tokens_details: { cached_tokens: 2 },
  extra: {
    spec_verify_ct: 1,
    spec_plain_ct: 1,
    spec_accept_rate: 0.5,
    spec_correct_drafts_histogram: [0, 1],
    queue_ms: 1,
    prompt_n: 1,
    prompt_ms: 2,
    predicted_n: 5,
    predicted_ms: 8,
    predicted_per_second: 500,
  },
};

async function collect(stream: ChatCompletionStream) {
  const chunks: ChatCompletionChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
const choicesOf = (chunks: readonly ChatCompletionChunk[]) => chunks.flatMap(({ choices }) => choices);
const textOf = (chunks: readonly ChatCompletionChunk[]) =>
  choicesOf(chunks)
    .map(({ delta }) => delta.content ?? '')
    .join('');
const rejection = async (promise: Promise<unknown>): Promise<unknown> => {
  const outcome = await settled(promise);
  if ('value' in outcome) throw new Error(`Expected a rejection, got ${JSON.stringify(outcome.value)}.`);
  return outcome.error;
};

describe('an answer', () => {
  test('in one piece', async () => {
    const { chat, calls, conversations } = scriptedChat(answer);
    const before = Math.floor(Date.now() / 1000);
    const completion = await chat.completions.create({ messages });
    expect(completion).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f]{32}$/),
      object: 'chat.completion',
      created: expect.any(Number),
      model: 'tiny',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'Hi the🐶re', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage,
    });
    expect(completion.created).toBeGreaterThanOrEqual(before);
    expect(completion.created).toBeLessThanOrEqual(Date.now() / 1000);
    expect(conversations).toEqual([messages]);
    expect(calls[0]?.prompt).toEqual([10, 11, 12]);
    expect((await chat.completions.create({ messages })).id).not.toBe(completion.id);
  });

  test('piece by piece: role, a text per round, the end', async () => {
    const { chat } = scriptedChat(answer);
    const chunks = await collect(await chat.completions.create({ messages, model: 'mine', stream: true }));
    const { id, created } = chunks[0]!;
    const frame = { id, created, object: 'chat.completion.chunk', model: 'mine' };
    const choice = { index: 0, logprobs: null, finish_reason: null };
    expect(chunks).toEqual([
      { ...frame, choices: [{ ...choice, delta: { role: 'assistant', content: '' } }] },
      { ...frame, choices: [{ ...choice, delta: { content: 'Hi' } }] },
      { ...frame, choices: [{ ...choice, delta: { content: ' the🐶re' } }] },
      { ...frame, choices: [{ ...choice, delta: {}, finish_reason: 'stop' }] },
    ]);
    expect(chunks.some((chunk) => 'usage' in chunk)).toBe(false);
    expect(id).toMatch(/^chatcmpl-/);
  });

  test('with usage in a last chunk of its own, null in the others', async () => {
    const { chat } = scriptedChat(answer);
    const request = { messages, stream: true, stream_options: { include_usage: true } } as const;
    const chunks = await collect(await chat.completions.create(request));
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage });
    expect(chunks.slice(0, -1).map((chunk) => chunk.usage)).toEqual([null, null, null, null]);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe('stop');
  });

  test.each<[ScriptedAnswer['finish'], string]>([
    [{ type: 'stop', matched: 1 }, 'stop'],
    [{ type: 'stop', matched: 'END' }, 'stop'],
    [{ type: 'length', length: 5 }, 'length'],
  ])('%j is finish_reason %s, in both forms', async (finish, reason) => {
    const { chat } = scriptedChat({ ...answer, finish });
    expect((await chat.completions.create({ messages })).choices[0].finish_reason).toBe(reason);
    const chunks = await collect(await chat.completions.create({ messages, stream: true }));
    expect(choicesOf(chunks).map(({ finish_reason }) => finish_reason)).toEqual([null, null, null, reason]);
  });

  test('without a draft has no spec_ keys', async () => {
    const { chat } = scriptedChat({ rounds: answer.rounds, finish: answer.finish });
    const { extra } = (await chat.completions.create({ messages })).usage;
    expect(Object.keys(extra).filter((key) => key.startsWith('spec_'))).toEqual([]);
    expect(extra.predicted_per_second).toBeNull();
  });

  test('comes while it is made: a round is not held back for the next one', async () => {
    const { chat, sent } = scriptedChat(answer);
    const stream = await chat.completions.create({ messages, stream: true });
    const seen: [text: string, sent: number][] = [];
    for await (const { choices } of stream) seen.push([choices[0]?.delta.content ?? '', sent()]);
    expect(seen.slice(0, 2)).toEqual([
      ['', 0],
      ['Hi', 1],
    ]);
  });
});

describe('three answers', () => {
  const spec: Partial<ScriptedAnswer['stats']> = { verifyCount: 2, plainCount: 1, draftedCount: 6, acceptedCount: 3 };
  const drafted: ScriptedAnswer = {
    ...answer,
    meta: { ...answer.meta, spec_correct_drafts_histogram: [1, 0, 0, 1], spec_accept_rate_per_pos: [0.5] },
    stats: { ...answer.stats, ...spec },
  };
  const summed = {
    prompt_tokens: 3,
    completion_tokens: 15,
    total_tokens: 18,
    prompt_tokens_details: { cached_tokens: 2 },
    extra: {
      spec_verify_ct: 6,
      spec_plain_ct: 3,
      spec_num_proposed_drafts: 18,
      spec_num_correct_drafts: 9,
      spec_accept_rate: 0.5,
      spec_accept_length: 2,
      spec_correct_drafts_histogram: [3, 0, 0, 3],
      queue_ms: 1,
      prompt_n: 1,
      prompt_ms: 2,
      predicted_n: 15,
      predicted_ms: 8,
      predicted_per_second: 1500,
    },
  };

  test('in one piece: a choice for each, from seeds that count up, and their usage together', async () => {
    const { chat, calls, conversations } = scriptedChat(drafted);
    const { choices, usage } = await chat.completions.create({ messages, n: 3, seed: 2 ** 53 - 2, temperature: 0.5 });
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(choices.map(({ message }) => message.content)).toEqual(Array(3).fill('Hi the🐶re'));
    expect(usage).toEqual(summed);
    expect(conversations).toHaveLength(1);
    expect(calls.map(({ options }) => options.seed)).toEqual([2 ** 53 - 2, 2 ** 53 - 1, 0]);
    await chat.completions.create({ messages, n: 2 });
    expect(calls.slice(3).map(({ options }) => 'seed' in options)).toEqual([false, false]);
  });

  test('piece by piece: each whole and in order, beside the others, with one usage', async () => {
    const { chat } = scriptedChat(drafted);
    const request = { messages, n: 3, stream: true, stream_options: { include_usage: true } } as const;
    const chunks = await collect(await chat.completions.create(request));
    const of = (i: number) => choicesOf(chunks).filter(({ index }) => index === i);
    for (const i of [0, 1, 2]) {
      expect(of(i).map(({ delta }) => delta.content)).toEqual(['', 'Hi', ' the🐶re', undefined]);
      expect(of(i).map(({ finish_reason }) => finish_reason)).toEqual([null, null, null, 'stop']);
    }
    const order = choicesOf(chunks).map(({ index }) => index);
    expect(order.lastIndexOf(0)).toBeGreaterThan(order.indexOf(2));
    expect(chunks.filter((chunk) => chunk.usage !== null).map((chunk) => chunk.usage)).toEqual([summed]);
  });

  test('end together: when one fails, and when the stream is left', async () => {
    const rejections = watchRejections();
    const failure = new NonFiniteLogitsError('NaN');
    const failing = scriptedChat({ ...answer, failure });
    expect(await rejection(failing.chat.completions.create({ messages, n: 3 }))).toBe(failure);
    const stream = await failing.chat.completions.create({ messages, n: 3, stream: true });
    expect(await rejection(collect(stream))).toBe(failure);
    const left = scriptedChat(answer);
    for await (const { choices } of await left.chat.completions.create({ messages, n: 3, stream: true })) {
      if (choices[0]?.delta.content === 'Hi') break;
    }
    const calls = [...failing.calls, ...left.calls];
    expect(calls).toHaveLength(9);
    expect(calls.map(({ options }) => options.signal?.aborted)).toEqual(Array(9).fill(true));
    expect(await rejections.count()).toBe(0);
    rejections.stop();
  });
});

describe('logprobs', () => {
  const one = (id: number) => {
    const { text: token, bytes, logprob } = logprobOf(id);
    return { token, bytes, logprob };
  };
  const told = (id: number, top: number[]) => ({ ...one(id), top_logprobs: top.map(one) });

  test('one entry per token but the one that ended the answer, alike in both forms', async () => {
    const { chat, calls } = scriptedChat(answer);
    const request = { messages, logprobs: true, top_logprobs: 2 } as const;
    const { choices } = await chat.completions.create(request);
    const content = [2, 3, 4, 5].map((token) => told(token, [20, 21]));
    expect(choices[0].logprobs).toEqual({ content, refusal: null });
    expect(calls[0]?.options).toMatchObject({ logprobs: true, topLogprobs: 2 });

    const chunks = choicesOf(await collect(await chat.completions.create({ ...request, stream: true })));
    expect(chunks.flatMap(({ logprobs }) => logprobs?.content ?? [])).toEqual(content);
    // A round that shows no text yet has tokens all the same.
    expect(chunks.map(({ delta, logprobs }) => [delta.content, logprobs?.content.length])).toEqual([
      ['', undefined],
      ['Hi', 1],
      ['', 1],
      [' the🐶re', 2],
      [undefined, undefined],
    ]);
  });

  test('a token of stop_token_ids ends the answer too; an ignored end-of-sequence token does not', async () => {
    const { chat } = scriptedChat(answer);
    const request = { messages, logprobs: true, ignore_eos: true, stop_token_ids: [4] };
    const { choices } = await chat.completions.create(request);
    expect(choices[0].logprobs?.content.map(({ token }) => token)).toEqual(['<2>', '<3>', '<5>', '<1>']);
  });

  test('top_logprobs are none unless asked for', async () => {
    const { chat } = scriptedChat(answer);
    const { choices } = await chat.completions.create({ messages, logprobs: true });
    expect(choices[0].logprobs?.content[0]).toEqual(told(2, []));
  });
});

describe('a request', () => {
  test('hands every option to generate', async () => {
    const { chat, calls } = scriptedChat(answer);
    await chat.completions.create({
      messages,
      max_completion_tokens: 30,
      temperature: 0.7,
      top_p: 0.9,
      stop: ['a', 'b'],
      seed: 7,
      presence_penalty: 1,
      frequency_penalty: -1,
      logit_bias: { 5: 2, 6: -100 },
      logprobs: true,
      top_logprobs: 3,
      n: 1,
      response_format: { type: 'text' },
      user: 'me',
      top_k: 40,
      min_p: 0.1,
      repetition_penalty: 1.1,
      min_tokens: 2,
      stop_token_ids: [9],
      ignore_eos: true,
      draft_length: 0,
      priority: 2,
    });
    expect(calls[0]?.options).toEqual({
      maxNewTokens: 30,
      minNewTokens: 2,
      draftLength: 0,
      temperature: 0.7,
      topK: 40,
      topP: 0.9,
      minP: 0.1,
      seed: 7,
      repetitionPenalty: 1.1,
      presencePenalty: 1,
      frequencyPenalty: -1,
      logitBias: { 5: 2, 6: -100 },
      stop: ['a', 'b'],
      stopTokenIds: [9],
      ignoreEos: true,
      logprobs: true,
      topLogprobs: 3,
      priority: 2,
      signal: expect.any(AbortSignal),
    });
  });

  test('with nothing but messages samples at temperature 1 until the context is full', async () => {
    const { chat, calls } = scriptedChat(answer);
    await chat.completions.create({ messages });
    expect(calls[0]?.options).toEqual({ temperature: 1, maxNewTokens: 256, signal: expect.any(AbortSignal) });
    await chat.completions.create({ messages, max_tokens: 5 });
    expect(calls[1]?.options.maxNewTokens).toBe(5);
  });

  test('null and undefined mean not given', async () => {
    const { chat, calls } = scriptedChat(answer);
    const keys = ['model', 'stream', 'max_tokens', 'temperature', 'stop', 'seed', 'n', 'logit_bias', 'tools', 'top_k'];
    for (const nothing of [null, undefined]) {
      const request = { messages, ...Object.fromEntries(keys.map((key) => [key, nothing])) } as ChatCompletionRequest;
      expect(await chat.completions.create(request, nothing as undefined)).toMatchObject({ model: 'tiny' });
    }
    expect(calls.map(({ options }) => options.temperature)).toEqual([1, 1]);
  });

  test('reads its messages once and copies what templates know', async () => {
    const { chat, conversations } = scriptedChat(answer);
    const parts = [
      { type: 'text', text: 'One,' },
      { type: 'text', text: 'two.' },
    ] as const;
    const given: ChatMessage[] = [
      { role: 'developer', content: 'Be terse.', name: null },
      { role: 'user', content: parts, name: 'Ada' },
      { role: 'assistant', content: 'Three.', refusal: null, reasoning_content: 'Counting.' },
      { role: 'tool', content: '4', tool_call_id: 'x' },
    ];
    const foreign = [{ role: 'assistant', content: '', tool_calls: [], annotations: [], audio: null }] as object[];
    await chat.completions.create({ messages: [...given, ...(foreign as ChatMessage[])] });
    expect(conversations[0]).toEqual([
      { role: 'developer', content: 'Be terse.' },
      { role: 'user', content: 'One,\ntwo.', name: 'Ada' },
      { role: 'assistant', content: 'Three.', reasoning_content: 'Counting.' },
      { role: 'tool', content: '4', tool_call_id: 'x' },
      { role: 'assistant', content: '' },
    ]);
    expect(await chat.applyTemplate(given)).toEqual({ text: 'rendered', tokens: [10, 11, 12] });
    expect(conversations[1]).toEqual(conversations[0]?.slice(0, 4));
    expect(await rejection(chat.applyTemplate([]))).toBeInstanceOf(InvalidOptionError);
  });

  test("takes an answer's own message back", async () => {
    const { chat, conversations } = scriptedChat(answer);
    const { choices } = await chat.completions.create({ messages });
    await chat.completions.create({ messages: [...messages, choices[0].message, ...messages] });
    expect(conversations[1]?.map(({ content }) => content)).toEqual(['Hello', 'Hi the🐶re', 'Hello']);
  });

  const user = (extra: object) => ({ messages: [{ ...messages[0], ...extra }] });
  test.each<[string, unknown, RegExp]>([
    ['nothing', undefined, /options of chat\.completions\.create\(\) to be a plain object.*messages: \[/],
    ['no messages', {}, /`messages` to be an array of messages, got nothing/],
    ['empty messages', { messages: [] }, /`messages` to have at least 1, got 0/],
    ['a text for messages', { messages: 'Hello' }, /`messages` to be an array of messages, got the string "Hello"/],
    ['a text for a message', { messages: ['Hello'] }, /`messages\[0\]` to be a plain object, got the string/],
    ['an unknown role', user({ role: 'bot' }), /`messages\[0\]\.role` to be one of system, .*, got the string "bot"/],
    ['no content', user({ content: null }), /`messages\[0\]\.content` to be a string or an array of .*, got nothing/],
    [
      'a picture',
      user({ content: [{ type: 'image_url', image_url: {} }] }),
      /content\[0\]\.type` to be 'text'.*image_url/,
    ],
    [
      'a part without text',
      user({ content: [{ type: 'text' }] }),
      /`messages\[0\]\.content\[0\]\.text` to be a string/,
    ],
    [
      'a misspelled key',
      user({ contents: 'x' }),
      /Unknown key `contents` of `messages\[0\]`; did you mean `content`\?/,
    ],
    ['an unknown key', user({ colour: 'x' }), /Unknown key `colour` of `messages\[0\]`\. Expected one of `role`/],
    ['a tool call', user({ tool_calls: [{ id: 'x' }] }), /no `messages\[0\]\.tool_calls`, which is not supported here/],
    ['a number for a name', user({ name: 5 }), /`messages\[0\]\.name` to be a string, got 5/],
    [
      'tools',
      { messages, tools: [] },
      /no `tools`, which is not supported here, got an array of length 0\. Leave it out/,
    ],
    ['a tool choice', { messages, tool_choice: 'auto' }, /no `tool_choice`/],
    ['functions', { messages, functions: [] }, /no `functions`/],
    [
      'JSON',
      { messages, response_format: { type: 'json_object' } },
      /`response_format\.type` to be 'text', got the string "json/,
    ],
    ['no answer', { messages, n: 0 }, /`n` to be an integer from 1 to 128, got 0/],
    ['half an answer', { messages, n: 1.5 }, /`n` to be an integer from 1 to 128, got 1\.5/],
    ['a number for a model', { messages, model: 5 }, /`model` to be a string, got 5/],
    [
      'both limits',
      { messages, max_tokens: 5, max_completion_tokens: 5 },
      /one of `max_tokens` and `max_completion_tokens`/,
    ],
    ['stream options alone', { messages, stream_options: { include_usage: true } }, /with `stream: true` only/],
    [
      'unknown stream options',
      { messages, stream: true, stream_options: { usage: true } },
      /`usage` of `stream_options`/,
    ],
    ['a text for stream', { messages, stream: 'yes' }, /`stream` to be true or false/],
    ['a signal inside', { messages, signal: new AbortController().signal }, /`signal` in the second argument/],
    // Names of generate, of other programs, and misspelled ones.
    ['maxTokens', { messages, maxTokens: 5 }, /Unknown option `maxTokens`; did you mean `max_tokens`\?/],
    ['maxNewTokens', { messages, maxNewTokens: 5 }, /did you mean `max_completion_tokens`\?/],
    ['n_predict', { messages, n_predict: 5 }, /did you mean `max_completion_tokens`\?/],
    ['topP', { messages, topP: 1 }, /did you mean `top_p`\?/],
    ['minNewTokens', { messages, minNewTokens: 1 }, /did you mean `min_tokens`\?/],
    ['repeat_penalty', { messages, repeat_penalty: 1 }, /did you mean `repetition_penalty`\?/],
    ['num_speculative_tokens', { messages, num_speculative_tokens: 1 }, /did you mean `draft_length`\?/],
    ['temprature', { messages, temprature: 1 }, /did you mean `temperature`\?/],
    ['an engine option', { messages, contextLength: 5 }, /`contextLength` is an option of createEngine\(\)/],
    // What generate refuses, in the names of the request.
    ['top_p 2', { messages, top_p: 2 }, /Expected `top_p` to be a number above 0, up to 1, got 2/],
    ['max_tokens 0', { messages, max_tokens: 0 }, /Expected `max_tokens` to be an integer from 1 up, got 0/],
    ['max_completion_tokens -1', { messages, max_completion_tokens: -1 }, /Expected `max_completion_tokens` to be/],
    [
      'min_tokens 9',
      { messages, max_tokens: 5, min_tokens: 9 },
      /`min_tokens` to be an integer from 0 to 5.*at most `max_tokens`/,
    ],
    ['a stop token', { messages, stop_token_ids: [512] }, /`stop_token_ids\[0\]` to be a token id from 0 to 511/],
    ['a bias', { messages, logit_bias: { 600: 1 } }, /a key of logit_bias.* to be a token id/],
    ['top_logprobs alone', { messages, top_logprobs: 3 }, /`logprobs` to be true, as `top_logprobs` is 3/],
    ['a draft length', { messages, draft_length: 3 }, /`draft_length` to be 0/],
  ])('is refused for %s', async (_, request, message) => {
    const { chat, calls } = scriptedChat(answer);
    const error = await rejection(chat.completions.create(request as ChatCompletionRequest));
    expect((error as Error).message).toMatch(message);
    expect(error).toBeInstanceOf(InvalidOptionError);
    expect(calls).toEqual([]);
  });

  test('is refused for a prompt that fills the context, and for options that are no signal', async () => {
    const render = async () => ({ text: '', tokens: [1, 2, 3, 4] });
    const { chat } = scriptedChat(answer, { contextLength: 4, render });
    const error = await rejection(chat.completions.create({ messages }));
    expect((error as Error).message).toMatch(/Expected `messages` to have at most 3 tokens.*got 4/);
    for (const options of [{ signal: 5 }, { timeout: 5 }, 5]) {
      expect(await rejection(chat.completions.create({ messages }, options as object))).toBeInstanceOf(
        InvalidOptionError,
      );
    }
  });

  test('whose template refuses rejects, with a stream as well', async () => {
    const refusal = new InvalidOptionError('roles must alternate');
    const { chat } = scriptedChat(answer, { render: () => Promise.reject(refusal) });
    expect(await rejection(chat.completions.create({ messages }))).toBe(refusal);
    expect(await rejection(chat.completions.create({ messages, stream: true }))).toBe(refusal);
  });

  test('that fails midway rejects; a stream yields what it had before', async () => {
    const failure = new NonFiniteLogitsError('NaN');
    const { chat } = scriptedChat({ ...answer, failure });
    expect(await rejection(chat.completions.create({ messages }))).toBe(failure);
    const stream = await chat.completions.create({ messages, stream: true });
    const texts: string[] = [];
    const iteration = (async () => {
      for await (const { choices } of stream) texts.push(choices[0]?.delta.content ?? 'end');
    })();
    expect(await rejection(iteration)).toBe(failure);
    expect(texts).toEqual(['', 'Hi', ' the🐶re']);
  });
});

describe('aborting', () => {
  test('before the call rejects with the reason and asks nobody', async () => {
    const { chat, conversations } = scriptedChat(answer);
    const reason = new Error('early');
    for (const stream of [true, false]) {
      const created = chat.completions.create({ messages, stream }, { signal: AbortSignal.abort(reason) });
      expect(await rejection(created)).toBe(reason);
    }
    expect(await rejection(chat.completions.create({ messages }, { signal: AbortSignal.abort() }))).toMatchObject({
      name: 'AbortError',
    });
    expect(conversations).toEqual([]);
  });

  test('while the template renders starts no run', async () => {
    const abort = new AbortController();
    const render = async () => {
      abort.abort();
      return { text: '', tokens: [5] };
    };
    const { chat, calls } = scriptedChat(answer, { render });
    expect(await rejection(chat.completions.create({ messages }, { signal: abort.signal }))).toMatchObject({
      name: 'AbortError',
    });
    expect(calls).toEqual([]);
  });

  test('an answer in one piece rejects with the reason', async () => {
    const { chat, sent } = scriptedChat(answer);
    const abort = new AbortController();
    const created = chat.completions.create({ messages }, { signal: abort.signal });
    const error = rejection(created);
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort();
    expect(await error).toMatchObject({ name: 'AbortError' });
    expect(sent()).toBeLessThan(3);
  });

  const bySignal = (abort: AbortController) => abort.abort();
  const byController = (_: AbortController, stream: ChatCompletionStream) => stream.controller.abort();
  test.each([
    ['the signal', bySignal],
    ['stream.controller', byController],
  ])('a stream, by %s, ends it without an error and without a finish_reason', async (_, end) => {
    const { chat, sent } = scriptedChat(answer);
    const abort = new AbortController();
    const request = { messages, stream: true, stream_options: { include_usage: true } } as const;
    const stream = await chat.completions.create(request, { signal: abort.signal });
    const chunks: ChatCompletionChunk[] = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
      if (chunk.choices[0]?.delta.content === 'Hi') end(abort, stream);
    }
    expect(textOf(chunks)).toBe('Hi');
    expect(choicesOf(chunks).every(({ finish_reason }) => finish_reason === null)).toBe(true);
    expect(chunks.every((chunk) => chunk.usage === null)).toBe(true);
    expect(sent()).toBe(1);
  });

  test.each([1, 2])('leaving the loop at chunk %i aborts the run', async (place) => {
    const { chat, calls, sent } = scriptedChat(answer);
    const stream = await chat.completions.create({ messages, stream: true });
    let count = 0;
    for await (const _ of stream) {
      count += 1;
      if (count === place) break;
    }
    expect(calls[0]?.options.signal?.aborted).toBe(true);
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(sent()).toBeLessThan(3);
  });

  test('a stream that nobody iterates runs to its end, and a failure of it is no unhandled rejection', async () => {
    const rejections = watchRejections();
    const whole = scriptedChat(answer);
    await whole.chat.completions.create({ messages, stream: true });
    const failing = scriptedChat({ ...answer, failure: new NonFiniteLogitsError('NaN') });
    await failing.chat.completions.create({ messages, stream: true });
    for (let turn = 0; turn < 6; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect([whole.sent(), failing.sent()]).toEqual([3, 3]);
    expect(whole.calls[0]?.options.signal?.aborted).toBe(false);
    expect(await rejections.count()).toBe(0);
    rejections.stop();
  });

  test('after the end changes nothing', async () => {
    const { chat, calls } = scriptedChat(answer);
    const stream = await chat.completions.create({ messages, stream: true });
    const chunks = await collect(stream);
    expect(calls[0]?.options.signal?.aborted).toBe(false);
    stream.controller.abort();
    expect(textOf(chunks)).toBe('Hi the🐶re');
  });

  test('a stream is iterated once', async () => {
    const { chat } = scriptedChat(answer);
    const stream = await chat.completions.create({ messages, stream: true });
    await collect(stream);
    await expect(collect(stream)).rejects.toThrow(/at most once/);
  });
});
