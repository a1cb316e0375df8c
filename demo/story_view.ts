/** Writes rounds as marked tokens. */
import type { Round } from 'foretoken';
import { element } from './dom.ts';

export type TokenKind = 'prefill' | 'draft' | 'bonus' | 'plain';

/** A round's accepted drafts come first, then the target's own token. */
export function tokenKind(round: Round, index: number): TokenKind {
  const { phase, acceptedCount } = round.stats;
  if (phase !== 'verify') return phase;
  return index < acceptedCount ? 'draft' : 'bonus';
}

const kindNames: Record<TokenKind, string> = {
  prefill: 'first token, from the prompt’s pass',
  draft: 'draft token, accepted',
  bonus: 'bonus token, the target’s own',
  plain: 'plain token, the target’s own',
};

export function startStory(place: HTMLElement, prompt: string): void {
  place.replaceChildren(element('span', { className: 'prompt', textContent: prompt }));
}

/** Appends a round; returns the number of tokens in the story. `firstPosition` counts tokens from 0 after the prompt. */
export function appendRound(place: HTMLElement, round: Round, firstPosition: number): number {
  const fragment = document.createDocumentFragment();
  for (const [i, piece] of round.pieces.entries()) {
    const kind = tokenKind(round, i);
    const { index, draftLength, acceptedCount } = round.stats;
    const token = element('span', { className: 'token' });
    token.dataset.kind = kind;
    token.dataset.round = String(index);
    token.dataset.position = String(firstPosition + i);
    token.dataset.id = String(round.tokens[i]);
    token.title =
      `${kindNames[kind]} · round ${index}, position ${firstPosition + i}` +
      (round.stats.phase === 'verify' ? ` · ${acceptedCount} of ${draftLength} drafts accepted` : '');
    // White space stays outside of the mark: a box around " was" would look like a box around a gap.
    const [, before = '', visible = '', after = ''] = /^(\s*)(\S[\s\S]*?)?(\s*)$/.exec(piece) ?? [];
    token.textContent = visible;
    if (visible === '') {
      token.dataset.sign = piece.includes('\n') ? '↵' : piece === '' ? '·' : '␣'; // drawn by the style sheet
      fragment.append(token, piece);
    } else {
      fragment.append(before, token, after);
    }
  }
  place.append(fragment);
  return firstPosition + round.pieces.length;
}

/** Marks the token at a position, where two texts part. */
export function markDifference(place: HTMLElement, position: number): void {
  place.querySelector(`[data-position="${position}"]`)?.classList.add('different');
}
