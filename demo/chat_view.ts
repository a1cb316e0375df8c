/** A conversation with the target, through its chat template; the acceptance of its drafts while it answers. */
import type { ChatMessage, Engine } from 'foretoken';
import { byId, element, textAt } from './dom.ts';
import { decimal, percent } from './words.ts';

const pollMs = 250;

export type ChatView = {
  /** Says whether a newly loaded model can chat, and begins a new conversation. */
  reset(engine: Engine | null): Promise<void>;
  canChat(): boolean;
};

export function installChat(page: {
  perform: (work: (engine: Engine, signal: AbortSignal) => Promise<void>) => Promise<void>;
  settings: () => { draftLength: number | 'auto'; maxNewTokens: number };
}): ChatView {
  const log = byId('chat-log', HTMLElement);
  const box = byId('chat-message', HTMLTextAreaElement);
  const form = byId('chat-form', HTMLFormElement);
  let messages: ChatMessage[] = [];
  let chats = false;

  const addMessage = (who: 'you' | 'model', text: string): HTMLElement => {
    const content = element('p', { className: 'message', textContent: text });
    const entry = element('div', { className: `turn ${who}` }, [element('h3', { textContent: who }), content]);
    log.append(entry);
    entry.scrollIntoView({ block: 'nearest' });
    return content;
  };
  const clear = (): void => {
    messages = [];
    log.replaceChildren();
    textAt('chat-stats', '');
  };

  async function answer(engine: Engine, signal: AbortSignal): Promise<void> {
    const content = box.value.trim();
    if (content === '') return;
    const asked: ChatMessage[] = [...messages, { role: 'user', content }];
    addMessage('you', content);
    box.value = '';
    const place = addMessage('model', '');
    place.setAttribute('aria-busy', 'true');
    const poll = await followAcceptance(engine);
    const { draftLength, maxNewTokens } = page.settings();
    try {
      const stream = await engine.chat.completions.create(
        {
          messages: asked,
          stream: true,
          stream_options: { include_usage: true },
          max_tokens: maxNewTokens,
          temperature: 0,
          draft_length: engine.info.drafter === null ? 0 : draftLength,
        },
        { signal },
      );
      for await (const { choices, usage } of stream) {
        place.textContent += choices[0]?.delta.content ?? '';
        if (usage) {
          const { extra, completion_tokens, prompt_tokens_details } = usage;
          textAt(
            'chat-stats',
            `${completion_tokens} tokens, ${decimal(extra.predicted_per_second, 1)} per second, ` +
              `${percent(extra.spec_accept_rate ?? null)} of the drafts accepted, ` +
              `${prompt_tokens_details.cached_tokens} prompt tokens reused.`,
          );
        }
      }
      messages = [...asked, { role: 'assistant', content: place.textContent ?? '' }];
    } finally {
      poll.stop();
      place.removeAttribute('aria-busy');
    }
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void page.perform(answer);
  });
  box.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey) return;
    event.preventDefault();
    form.requestSubmit();
  });
  byId('chat-clear', HTMLButtonElement).addEventListener('click', clear);

  return {
    canChat: () => chats,
    async reset(engine) {
      chats = false;
      clear();
      textAt('chat-hint', '');
      if (engine !== null) {
        try {
          await engine.chat.applyTemplate([{ role: 'user', content: 'Hello' }]);
          chats = true;
        } catch (error) {
          textAt('chat-hint', `This model does not chat. ${(error as Error).message}`);
        }
      }
      box.disabled = !chats;
    },
  };
}

/** Shows the share of drafts accepted since now, from the engine's counters. */
async function followAcceptance(engine: Engine): Promise<{ stop(): void }> {
  const counters = async () => {
    const text = await engine.metrics();
    const read = (name: string) => Number(new RegExp(`:${name}\\{[^}]*\\} (\\S+)`).exec(text)?.[1] ?? 0);
    return { drafted: read('spec_num_draft_tokens_total'), accepted: read('spec_num_accepted_tokens_total') };
  };
  const before = await counters();
  let stopped = false;
  const show = async (): Promise<void> => {
    const { drafted, accepted } = await counters();
    const sum = drafted - before.drafted;
    if (!stopped && sum > 0) {
      textAt('chat-stats', `${percent((accepted - before.accepted) / sum)} of ${sum} drafts accepted so far.`);
    }
  };
  const timer = setInterval(() => void show().catch(() => {}), pollMs); // a dead engine is reported by the answer
  return {
    stop() {
      stopped = true;
      clearInterval(timer);
    },
  };
}
