/** `engine.chat` over the real engine: an embedded model that came with a chat template. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { ChatCompletionChunk, ChatCompletionRequest, ChatMessage } from '../../src/chat_types.ts';
import { InvalidOptionError, UnsupportedModelError } from '../../src/errors.ts';
import { streamOf } from '../../src/model/body.ts';
import type { ModelSource } from '../../src/model/source.ts';
import type { Engine } from '../../src/types.ts';
import { embeddedFiles, embeddedSource, openEngine } from './engine_bench.ts';

/** ChatML with a beginning-of-sequence token in front; it refuses a system message that comes late. */
const template = `{{ bos_token }}{% for message in messages %}
{% if message.role == 'system' and not loop.first %}{{ raise_exception('The system message comes first.') }}{% endif %}
{{ '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`;

const messages: ChatMessage[] = [
  { role: 'system', content: 'You tell stories.' },
  { role: 'user', content: [{ type: 'text', text: ' Tell me of a dog. ' }] },
];
const rendered =
  '<|endoftext|><|im_start|>system\nYou tell stories.<|im_end|>\n<|im_start|>user\nTell me of a dog.<|im_end|>\n' +
  '<|im_start|>assistant\n';

/** The embedded target, whose tokenizer_config.json now has a template. */
async function chatSource(): Promise<ModelSource> {
  const source = embeddedSource('stories-3m');
  const config = (await embeddedFiles('stories-3m', ['tokenizer_config.json'])).get('tokenizer_config.json');
  const changed = { ...JSON.parse(new TextDecoder().decode(config)), chat_template: template };
  const changedBytes = new TextEncoder().encode(JSON.stringify(changed));
  return {
    ...source,
    open: async (file, options) =>
      file === 'tokenizer_config.json' ? streamOf(changedBytes) : source.open(file, options),
  };
}

async function collect(engine: Engine, request: ChatCompletionRequest): Promise<ChatCompletionChunk[]> {
  const chunks: ChatCompletionChunk[] = [];
  const streamed = { ...request, stream: true, stream_options: { include_usage: true } } as const;
  for await (const chunk of await engine.chat.completions.create(streamed)) chunks.push(chunk);
  return chunks;
}

const bytesOf = (text: string) => [...new TextEncoder().encode(text)];

describe('a chat', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine(await chatSource(), embeddedSource('stories-650k'), { contextLength: 128 });
  });

  it('renders its template, with one beginning-of-sequence token', async () => {
    const { text, tokens } = await engine.chat.applyTemplate(messages);
    expect(text).toBe(rendered);
    expect(tokens.filter((token) => token === 0)).toEqual([0]);
    expect(tokens[0]).toBe(0);
    // What generate makes of the same text.
    const { meta_info } = await engine.generate(rendered, { maxNewTokens: 1 }).result;
    expect(meta_info.prompt_tokens).toBe(tokens.length);
  });

  it.each<[string, Omit<ChatCompletionRequest, 'messages' | 'stream'>, object]>([
    ['greedy', { temperature: 0, draft_length: 3 }, {}],
    ['sampled with a seed, plain', { seed: 5, top_p: 0.9, draft_length: 0 }, { temperature: 1, seed: 5, topP: 0.9 }],
    ['stopped', { temperature: 0, stop: 'a', draft_length: 2 }, { stop: 'a' }],
  ])('%s: the same text streamed, in one piece, and from generate on the rendered prompt', async (_, options, own) => {
    const request = { messages, max_tokens: 16, ...options };
    const whole = await engine.chat.completions.create(request);
    const chunks = await collect(engine, request);
    const reference = await engine.generate(rendered, { maxNewTokens: 16, ...own }).result;

    const { message, finish_reason } = whole.choices[0];
    expect(message.content).toBe(reference.text);
    expect(message.content.length).toBeGreaterThan(0);
    expect(finish_reason).toBe(reference.meta_info.finish_reason.type);
    const choices = chunks.flatMap((chunk) => chunk.choices);
    expect(choices.map(({ delta }) => delta.content ?? '').join('')).toBe(reference.text);
    expect(choices.at(-1)?.finish_reason).toBe(finish_reason);

    for (const usage of [whole.usage, chunks.at(-1)?.usage]) {
      expect(usage).toMatchObject({
        prompt_tokens: reference.meta_info.prompt_tokens,
        completion_tokens: reference.tokens.length,
        total_tokens: reference.meta_info.prompt_tokens + reference.tokens.length,
      });
      expect(usage?.extra.spec_verify_ct === undefined).toBe(options.draft_length === 0);
      expect(usage?.extra.predicted_ms).toBeGreaterThan(0);
    }
  });

  it('tells logprobs whose bytes are the text, those of generate', async () => {
    const request = { messages, max_tokens: 8, temperature: 0, logprobs: true, top_logprobs: 2 };
    const { message, logprobs } = (await engine.chat.completions.create(request)).choices[0];
    const content = logprobs?.content ?? [];
    expect(content.flatMap(({ bytes }) => bytes ?? [])).toEqual(bytesOf(message.content));
    for (const { token, logprob, top_logprobs: top } of content) {
      expect(top).toHaveLength(2);
      expect(top[0]).toMatchObject({ token, logprob });
    }
    const reference = await engine.generate(rendered, { maxNewTokens: 8, logprobs: true, topLogprobs: 2 }).result;
    const own = reference.logprobs?.map(({ text, logprob }) => [text, logprob]) ?? [];
    expect(content.map(({ token, logprob }) => [token, logprob])).toEqual(own.slice(0, content.length));

    const chunks = await collect(engine, request);
    const streamed = chunks.flatMap((chunk) => chunk.choices).flatMap((choice) => choice.logprobs?.content ?? []);
    expect(streamed).toEqual(content);
  });

  it('samples two answers of one prefill, each what its own seed gives', async () => {
    const request = { messages, temperature: 1.2, max_tokens: 5, ignore_eos: true };
    const { choices, usage } = await engine.chat.completions.create({ ...request, seed: 7, n: 2 });
    expect(usage).toMatchObject({ completion_tokens: 10, total_tokens: usage.prompt_tokens + 10 });
    const texts = choices.map(({ message }) => message.content);
    expect(texts[0]).not.toBe(texts[1]);
    for (const [i, text] of texts.entries()) {
      const alone = await engine.chat.completions.create({ ...request, seed: 7 + i });
      expect(alone.choices[0].message.content).toBe(text);
    }
  });

  it('goes on until the context is full when nothing limits it', async () => {
    const { choices, usage } = await engine.chat.completions.create({ messages, temperature: 0, ignore_eos: true });
    expect(choices[0].finish_reason).toBe('length');
    expect(usage.total_tokens).toBe(128);
  });

  it('refuses what the template refuses and what does not fit, and goes on', async () => {
    const late: ChatMessage[] = [...messages, { role: 'system', content: 'Now in verse.' }];
    const create = (given: ChatMessage[]) => engine.chat.completions.create({ messages: given, max_tokens: 2 });
    await expect(create(late)).rejects.toThrow(/it says: The system message comes first/);
    const long: ChatMessage[] = [{ role: 'user', content: 'word '.repeat(200) }];
    await expect(create(long)).rejects.toThrow(/`messages` to have at most 127 tokens/);
    await expect(create(long)).rejects.toThrow(InvalidOptionError);
    expect((await create(messages)).usage.completion_tokens).toBe(2);
  });

  it('ends an aborted stream, and serves the next request', async () => {
    const abort = new AbortController();
    const request = { messages, stream: true, ignore_eos: true } as const;
    const stream = await engine.chat.completions.create(request, { signal: abort.signal });
    let last: ChatCompletionChunk | undefined;
    let count = 0;
    for await (const chunk of stream) {
      last = chunk;
      count += 1;
      if (count === 4) abort.abort();
    }
    expect(last?.choices[0]?.finish_reason).toBeNull();
    const whole = engine.chat.completions.create({ messages, ignore_eos: true }, { signal: AbortSignal.timeout(5) });
    await expect(whole).rejects.toMatchObject({ name: 'TimeoutError' });
    expect((await collect(engine, { messages, max_tokens: 3 })).at(-1)?.usage?.completion_tokens).toBeLessThanOrEqual(
      3,
    );
  });

  it('a model without a template says so', async () => {
    const base = await openEngine(embeddedSource('stories-3m'), null, { contextLength: 64 });
    const created = base.chat.completions.create({ messages });
    await expect(created).rejects.toThrow(/stories-3m\/ to have a chat template.*got none.*generate\(\)/);
    await expect(created).rejects.toThrow(UnsupportedModelError);
    await expect(base.chat.applyTemplate(messages)).rejects.toThrow(UnsupportedModelError);
  });
});
