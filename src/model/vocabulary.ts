import { VocabularyMismatchError } from '../errors.ts';
import type { Tokenizer } from './tokenizer.ts';

export type NamedVocabulary = {
  url: string;
  tokenizer: Pick<Tokenizer, 'vocabSize' | 'hasTable' | 'tokenOf' | 'textOf'>;
};

/**
 * Draft tokens are ids, and the target reads the same ids: one difference and speculation proposes nonsense. Compares
 * every id of both vocabularies, added tokens included.
 */
export function checkSameVocabulary(target: NamedVocabulary, draft: NamedVocabulary): void {
  // A caller's own tokenizer object shows no table; then the text of each single token must do.
  const byTable = target.tokenizer.hasTable && draft.tokenizer.hasTable;
  const entry = ({ tokenizer }: NamedVocabulary, id: number) =>
    (byTable ? tokenizer.tokenOf(id) : tokenizer.textOf(id)) || null;
  // Without a table the size is the model's, padding included; padding has no text, which counts as no token.
  const size = Math.max(target.tokenizer.vocabSize, draft.tokenizer.vocabSize);
  for (let id = 0; id < size; id++) {
    const targetToken = entry(target, id);
    const draftToken = entry(draft, id);
    if (targetToken === draftToken || withSpaces(targetToken) === withSpaces(draftToken)) continue;
    throw new VocabularyMismatchError(
      `The draft model ${draft.url} does not share the vocabulary of the target ${target.url}: token id ${id} is ` +
        `${quote(draftToken)} in the draft (${draft.tokenizer.vocabSize} tokens) and ${quote(targetToken)} in the ` +
        `target (${target.tokenizer.vocabSize} tokens). Expected one vocabulary: choose a draft of the target's family.`,
    );
  }
}

/** GGUF files write the blanks of some tokens as they are, tokenizer.json writes ▁. */
const withSpaces = (token: string | null) => token?.replaceAll('▁', ' ') ?? null;
const quote = (token: string | null) => (token === null ? 'no token' : JSON.stringify(token.slice(0, 60)));
