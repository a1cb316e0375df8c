/** A chat over an engine whose answers are written down: real runs, real checks of options, no model. */
import { createChat } from '../../../src/chat.ts';
import type { Chat, ChatPrompt, PlainChatMessage } from '../../../src/chat_types.ts';
import { parseGenerateOptions, parsePrompt } from '../../../src/options.ts';
import { createRun, type RunControl } from '../../../src/run.ts';
import type { FinishReason, GenerateOptions, GenerateResult, Logprob, Round } from '../../../src/types.ts';
import { info, makeResult, makeRound } from '../client/fixtures.ts';

/** The model's end-of-sequence token is 1, its vocabulary has 512 tokens, its context 256. */
export type ScriptedAnswer = {
  /** Tokens and text of each round. */
  rounds: { text: string; tokens: number[] }[];
  finish: FinishReason;
  meta?: Partial<GenerateResult['meta_info']>;
  stats?: Partial<GenerateResult['stats']>;
  /** Instead of an end. */
  failure?: Error;
};

/** What the engine would say of a token, were it asked. */
export const logprobOf = (token: number): Logprob => ({
  token,
  logprob: -token / 8,
  text: `<${token}>`,
  bytes: token % 2 === 0 ? [token % 256, 0] : null,
});

export type Call = { prompt: readonly number[]; options: GenerateOptions };

/** Rounds come one per macrotask, as from a worker. An abort ends the run with what it has. */
export function scriptedChat(
  answer: ScriptedAnswer,
  { contextLength = info.contextLength, render }: { contextLength?: number; render?: () => Promise<ChatPrompt> } = {},
): { chat: Chat; calls: Call[]; conversations: (readonly PlainChatMessage[])[]; sent: () => number } {
  const calls: Call[] = [];
  const conversations: (readonly PlainChatMessage[])[] = [];
  let sent = 0;
  const play = async (control: RunControl, { signal, topLogprobs, logprobs }: GenerateOptions): Promise<void> => {
    const rounds: Round[] = [];
    let left = false;
    control.onCancel(() => {
      left = true;
    });
    for (const [index, { text, tokens }] of answer.rounds.entries()) {
      await new Promise((resolve) => setImmediate(resolve));
      if (signal?.aborted || left) break;
      const top = Array.from({ length: topLogprobs ?? 0 }, (_, rank) => logprobOf(20 + rank));
      const told = tokens.map((token) => ({ ...logprobOf(token), top }));
      const round = { ...makeRound(index), text, tokens, pieces: [text], ...(logprobs && { logprobs: told }) };
      rounds.push(round);
      sent += 1;
      control.push(round);
    }
    await new Promise((resolve) => setImmediate(resolve));
    if (answer.failure !== undefined) return control.fail(answer.failure);
    const result = makeResult(rounds);
    const aborted = signal?.aborted || left;
    const finish = aborted ? ({ type: 'abort', message: 'aborted' } as const) : answer.finish;
    control.finish({
      ...result,
      ...(logprobs && { logprobs: rounds.flatMap((round) => round.logprobs ?? []) }),
      stats: { ...result.stats, ...answer.stats },
      meta_info: { ...result.meta_info, ...answer.meta, finish_reason: finish },
    });
  };
  const chat = createChat({
    modelName: 'tiny',
    info: { ...info, contextLength },
    generate(prompt, options) {
      const { vocabSize, eosTokenIds } = info.target;
      parseGenerateOptions(options, { drafter: null, vocabSize, eosTokenIds });
      parsePrompt(prompt, { vocabSize, contextLength });
      calls.push({ prompt, options });
      const control = createRun();
      void play(control, options);
      return control.run;
    },
    async applyTemplate(messages) {
      conversations.push(messages);
      return render ? render() : { text: 'rendered', tokens: [10, 11, 12] };
    },
  });
  return { chat, calls, conversations, sent: () => sent };
}
