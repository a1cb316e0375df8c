/** Integer twin of shaders/rows.wgsl: which tokens a pass feeds, and at which positions (DESIGN: positions). */
export type PassRows = { tokens: number[]; positions: number[]; firstOutputRow: number };

/** `history` holds the committed tokens, `drafts` those of this round so far. */
export function rowsOfPass(
  history: readonly number[],
  drafts: readonly number[],
  contextLength: number,
  pass:
    | { mode: 'prefill'; start: number; capacity: number }
    | { mode: 'catchUp'; start: number; capacity: number }
    | { mode: 'draft'; step: number }
    | { mode: 'verify' },
): PassRows {
  const n = history.length;
  if (pass.mode === 'prefill' || pass.mode === 'catchUp') {
    const fed = pass.mode === 'prefill' ? history : history.slice(0, -2);
    const tokens = fed.slice(pass.start, pass.start + pass.capacity);
    return { tokens, positions: tokens.map((_, i) => pass.start + i), firstOutputRow: Math.max(0, tokens.length - 1) };
  }
  if (pass.mode === 'verify') {
    const tokens = [history[n - 1] as number, ...drafts.slice(0, Math.max(0, contextLength - 1 - n))];
    return { tokens, positions: tokens.map((_, i) => n - 1 + i), firstOutputRow: 0 };
  }
  if (pass.step === 1) return { tokens: history.slice(-2), positions: [n - 2, n - 1], firstOutputRow: 1 };
  const position = n + pass.step - 2;
  if (position >= contextLength) return { tokens: [], positions: [], firstOutputRow: 0 };
  return { tokens: [drafts[pass.step - 2] as number], positions: [position], firstOutputRow: 0 };
}
