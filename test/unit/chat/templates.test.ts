import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { PlainChatMessage } from '../../../src/chat_types.ts';
import { InvalidOptionError, ModelFormatError, UnsupportedModelError } from '../../../src/errors.ts';
import { createChatTemplate, renderChat } from '../../../src/model/chat_template.ts';
import { conversations, expected, families, templateOf } from './chats.ts';

const url = 'https://models.test/m/';
const hello: PlainChatMessage[] = [{ role: 'user', content: 'Hello' }];
const render = (source: string, messages = hello, config: unknown = {}) =>
  renderChat(createChatTemplate(source, config, url), messages);

// The date that the reference data have in them.
beforeEach(() => vi.useFakeTimers({ toFake: ['Date'], now: new Date(2025, 1, 9, 8, 7, 6) }));
afterEach(() => vi.useRealTimers());

describe('as transformers renders them', () => {
  test('the data are there', () => {
    expect(families.length).toBeGreaterThanOrEqual(10);
    expect(conversations.length).toBeGreaterThanOrEqual(20);
    expect(Object.keys(expected).sort()).toEqual([...families].sort());
  });

  test.each(families)('%s', (family) => {
    const template = templateOf(family);
    for (const [i, conversation] of conversations.entries()) {
      const wanted = expected[family]![i]!;
      if (typeof wanted === 'string') {
        expect(renderChat(template, conversation), `conversation ${i}`).toBe(wanted);
      } else {
        const attempt = () => renderChat(template, conversation);
        expect(attempt, `conversation ${i}`).toThrow(InvalidOptionError);
        expect(attempt).toThrow(`of https://models.test/${family}/ takes, but it says: ${wanted.refused} (The roles`);
      }
    }
  });
});

describe('where a template comes from', () => {
  test('a text, a list with a default, a list of one, an explicit null, nothing', () => {
    const source = (given: unknown) => createChatTemplate(given, null, url).source;
    expect(source('a')).toBe('a');
    const list = [
      { name: 'tool_use', template: 'b' },
      { name: 'default', template: 'a' },
    ];
    expect(source(list)).toBe('a');
    expect(source([{ name: 'x', template: 'c' }])).toBe('c');
    expect(source(null)).toBeNull();
    expect(source(undefined)).toBeNull();
    for (const bad of [5, {}, [], [{ name: 'default' }], [...list.slice(0, 1), { name: 'rag', template: 'b' }]]) {
      expect(() => source(bad)).toThrow(ModelFormatError);
    }
  });

  test('none: says so, and what to do', () => {
    const template = createChatTemplate(null, null, url);
    expect(() => renderChat(template, hello)).toThrow(UnsupportedModelError);
    expect(() => renderChat(template, hello)).toThrow(
      /models\.test\/m\/ to have a chat template.*Pass a text to generate\(\)/,
    );
  });

  test('special tokens are texts or objects; what the config does not name is empty', () => {
    const config = { bos_token: { content: '<s>' }, eos_token: '</s>', unk_token: null, pad_token: 7 };
    expect(render('{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ pad_token }}|', hello, config)).toBe(
      '<s>|</s>|||',
    );
    expect(render('{{ bos_token }}|', hello, 'no object')).toBe('|');
  });
});

describe('what a template may do', () => {
  test('blocks on lines of their own leave no blanks and no empty lines, as in transformers', () => {
    const source = "a\n    {% if true %}\n  b\n    {# no #}\n  {{ 'c' }}  \n    {% endif %}\nd\n";
    expect(render(source)).toBe('a\n  b\n  c  \nd');
  });

  test('tools and documents are none', () => {
    expect(render('{{ tools is defined and tools is none and not documents }}')).toBe('true');
  });

  test('the date is in English, wherever the browser is', () => {
    const english = vi.spyOn(Intl, 'DateTimeFormat').mockImplementation(function german(this: object) {
      return Object.assign(this, { format: () => 'Februar' });
    } as never);
    expect(render('{{ strftime_now("%A %a %d %B %b %Y %m %H:%M:%S %% %q") }}')).toBe(
      'Sunday Sun 09 February Feb 2025 02 08:07:06 % %q',
    );
    english.mockRestore();
  });

  test('range is as in Python', () => {
    const python = [
      ['3', '[0, 1, 2]'],
      ['2, 5', '[2, 3, 4]'],
      ['5, 0, -2', '[5, 3, 1]'],
      ['0, 5, 2', '[0, 2, 4]'],
      ['0', '[]'],
      ['3, 1', '[]'],
    ];
    for (const [args, list] of python) expect(render(`{{ range(${args}) | list | tojson }}`)).toBe(list);
  });

  test('a developer is a system where the template knows no developer', () => {
    const messages: PlainChatMessage[] = [{ role: 'developer', content: 'Be terse.' }, ...hello];
    const list = '{% for m in messages %}{{ m.role }} {% endfor %}';
    expect(render(list, messages)).toBe('system user ');
    expect(render(`{% if false %}developer{% endif %}${list}`, messages)).toBe('developer user ');
    expect(messages[0]!.role).toBe('developer');
  });

  test('nothing of JavaScript is in reach', () => {
    for (const path of ['constructor', '__proto__', 'content.constructor', 'content.__proto__', 'toString']) {
      expect(render(`{{ messages[0].${path} is defined }}`)).toBe('false');
    }
    expect(render('{{ globalThis is defined or process is defined or window is defined }}')).toBe('false');
  });
});

describe('a template that fails', () => {
  test('by its own word: the caller has to change the messages', () => {
    const refusing = '{{ raise_exception("No such " + messages[0].role) }}';
    expect(() => render(refusing)).toThrow(InvalidOptionError);
    expect(() => render(refusing)).toThrow(
      /models\.test\/m\/ takes, but it says: No such user \(The roles were user\.\)/,
    );
    expect(() => render('{{ raise_exception() }}')).toThrow(InvalidOptionError);
  });

  test.each([
    ['an open block', '{% for m in messages %}x'],
    ['an open expression', '{{ bos_token'],
    ['an unknown filter', '{{ messages | frobnicate }}'],
    ['an unknown function', '{{ frobnicate() }}'],
    ['a call of a text', '{{ bos_token() }}'],
    ['a text plus a list', '{{ "a" - [] }}'],
    ['an unknown tag', '{% frobnicate %}'],
    ['endless recursion', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'],
    ['a range that fills the memory', '{% for i in range(1000000000) %}{% endfor %}'],
    ['a range without end', '{% for i in range(0, 5, 0) %}{% endfor %}'],
    ['deep nesting', `{{ ${'('.repeat(50_000)} }}`],
  ])('by a fault of its own: %s', (_, source) => {
    expect(() => render(source)).toThrow(UnsupportedModelError);
    expect(() => render(source)).toThrow(
      /chat template of https:\/\/models\.test\/m\/ to run, got ".+"\. Write the prompt/,
    );
  });

  test('does not keep a model from loading', () => {
    expect(createChatTemplate('{% if', {}, url).source).toBe('{% if');
  });
});
