/** The `openai` package as the oracle: what its client makes of our chunks, and how its streams behave. */
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import type { ChatCompletionChunk } from '../../../src/chat_types.ts';
import { type ScriptedAnswer, scriptedChat } from './scripted_chat.ts';

const messages = [{ role: 'user' as const, content: 'Hello' }];
const answer: ScriptedAnswer = {
  rounds: [
    { text: 'Hi', tokens: [2] },
    { text: '', tokens: [3] },
    { text: ' there', tokens: [4, 5, 1] },
  ],
  finish: { type: 'stop', matched: 1 },
  meta: { prompt_tokens: 3, completion_tokens: 5, spec_verify_ct: 1, spec_accept_rate: 0.5 },
};

/** A client of the openai package whose server sends these chunks, and what that server received. */
function clientOf(chunks: readonly ChatCompletionChunk[]) {
  const events = [...chunks.map((chunk) => JSON.stringify(chunk)), '[DONE]'].map((data) => `data: ${data}\n\n`);
  const requests: unknown[] = [];
  const client = new OpenAI({
    apiKey: 'none',
    dangerouslyAllowBrowser: true,
    async fetch(_url, init) {
      requests.push(JSON.parse(String(init?.body)));
      return new Response(events.join(''), { headers: { 'content-type': 'text/event-stream' } });
    },
  });
  return { client, requests };
}

describe('the openai package', () => {
  test('assembles our chunks into our own answer in one piece', async () => {
    const { chat } = scriptedChat(answer);
    const request = { model: 'tiny', messages, logprobs: true, top_logprobs: 2, seed: 1 } as const;
    const whole = await chat.completions.create(request);
    const streamed = { ...request, stream: true, stream_options: { include_usage: true } } as const;
    const chunks: ChatCompletionChunk[] = [];
    for await (const chunk of await chat.completions.create(streamed)) chunks.push(chunk);

    const { client, requests } = clientOf(chunks);
    const assembled = await client.chat.completions.stream(streamed).finalChatCompletion();
    const { id, created, ...rest } = whole;
    expect(assembled).toMatchObject(rest);
    // The very request object serves both.
    expect(requests).toEqual([streamed]);
  });

  test('ends an aborted stream without an error, as we do', async () => {
    const { chat } = scriptedChat(answer);
    const request = { model: 'tiny', messages, stream: true } as const;
    const chunks: ChatCompletionChunk[] = [];
    for await (const chunk of await chat.completions.create(request)) chunks.push(chunk);

    const seen: string[][] = [];
    for (const create of [
      () => clientOf(chunks).client.chat.completions.create(request),
      () => scriptedChat(answer).chat.completions.create(request),
    ]) {
      const stream = await create();
      const texts: string[] = [];
      for await (const { choices } of stream) {
        texts.push(choices[0]?.delta.content ?? 'end');
        if (texts.length === 2) stream.controller.abort();
      }
      seen.push(texts);
    }
    expect(seen[1]).toEqual(['', 'Hi']);
    // Theirs may have more of a response that is here already; the end, without a throw, is what counts.
    expect(seen[0]?.slice(0, 2)).toEqual(seen[1]);
  });

  test('rejects a call whose signal was aborted, as we do', async () => {
    const signal = AbortSignal.abort();
    const theirs = clientOf([]).client.chat.completions.create({ model: 'tiny', messages }, { signal });
    await expect(theirs).rejects.toThrow(/abort/i);
    const ours = scriptedChat(answer).chat.completions.create({ model: 'tiny', messages }, { signal });
    await expect(ours).rejects.toThrow(/abort/i);
  });
});
