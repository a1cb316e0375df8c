/** Reference data: chat templates of real families, conversations, and what transformers makes of them. */
import { readdirSync, readFileSync } from 'node:fs';
import type { PlainChatMessage } from '../../../src/chat_types.ts';
import { type ChatTemplate, createChatTemplate } from '../../../src/model/chat_template.ts';

const folder = new URL('../../reference/data/chats/', import.meta.url);
const readText = (file: string): string => readFileSync(new URL(file, folder), 'utf8');
const readJson = <T>(file: string): T => JSON.parse(readText(file)) as T;

export const families: string[] = readdirSync(folder)
  .filter((file) => file.endsWith('.jinja'))
  .map((file) => file.replace(/\.jinja$/, ''));
export const conversations = readJson<PlainChatMessage[][]>('conversations.json');
/** The rendered text of each conversation, or why the template refuses it. */
export const expected = readJson<Record<string, (string | { refused: string })[]>>('expected.json');
export const specialTokens = readJson<Record<string, Record<string, string>>>('special_tokens.json');

export const templateOf = (family: string): ChatTemplate =>
  createChatTemplate(readText(`${family}.jinja`), specialTokens[family], `https://models.test/${family}/`);
