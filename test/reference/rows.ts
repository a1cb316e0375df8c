/** Integer twin of shaders/rows.wgsl: which tokens a pass feeds, and at which positions (DESIGN: positions). */
export type TwinRow = { token: number; slot: number; position: number };
export type PassRows = {
  rows: TwinRow[];
  firstOutputRow: number;
  /** Neighbouring rows of one slot that share loads of keys and values: first row and count. */
  groups: [first: number, count: number][];
};

/** A sequence as a pass finds it. */
export type TwinSequence = {
  slot: number;
  /** The committed tokens. */
  history: readonly number[];
  /** Those of this round that are known by now. */
  drafts: readonly number[];
  contextLength: number;
  /** k of its turn; null where it sits out or has ended. */
  draftLength: number | null;
};

export type TwinPass =
  /** Of the first sequence alone. */
  | { mode: 'prefill'; start: number; capacity: number }
  | { mode: 'catchUp'; start: number; capacity: number }
  | { mode: 'draft'; step: number }
  | { mode: 'verify' };

export function rowsOfPass(sequences: readonly TwinSequence[], pass: TwinPass, groupRows: number): PassRows {
  if (pass.mode === 'prefill' || pass.mode === 'catchUp') {
    const { slot, history } = sequences[0]!;
    const fed = pass.mode === 'prefill' ? history : history.slice(0, -2);
    const tokens = fed.slice(pass.start, pass.start + pass.capacity);
    const rows = tokens.map((token, i) => ({ token, slot, position: pass.start + i }));
    return { rows, firstOutputRow: Math.max(0, rows.length - 1), groups: groupsOf([rows], groupRows) };
  }
  const running = sequences.filter(({ draftLength }) => draftLength !== null);
  if (pass.mode === 'verify') {
    const runs = running.map(({ slot, history, drafts, contextLength }) => {
      const n = history.length;
      const tokens = [history[n - 1]!, ...drafts.slice(0, Math.max(0, contextLength - 1 - n))];
      return tokens.map((token, i) => ({ token, slot, position: n - 1 + i }));
    });
    return { rows: runs.flat(), firstOutputRow: 0, groups: groupsOf(runs, groupRows) };
  }
  const drafting = running.filter(({ draftLength }) => draftLength! >= pass.step);
  if (pass.step === 1) {
    const rowsAt = (back: number) =>
      drafting.map(({ slot, history }) => ({ token: history.at(-back)!, slot, position: history.length - back }));
    const rows = [...rowsAt(2), ...rowsAt(1)];
    const runs = drafting.length === 1 ? [rows] : rows.map((row) => [row]);
    return { rows, firstOutputRow: drafting.length, groups: groupsOf(runs, groupRows) };
  }
  const rows = drafting
    .map(({ slot, history, drafts }) => ({
      token: drafts[pass.step - 2]!,
      slot,
      position: history.length + pass.step - 2,
    }))
    .filter(({ position }, i) => position < drafting[i]!.contextLength);
  return {
    rows,
    firstOutputRow: 0,
    groups: groupsOf(
      rows.map((row) => [row]),
      groupRows,
    ),
  };
}

function groupsOf(runs: readonly TwinRow[][], groupRows: number): PassRows['groups'] {
  const groups: PassRows['groups'] = [];
  let first = 0;
  for (const { length } of runs) {
    for (let row = 0; row < length; row += groupRows) groups.push([first + row, Math.min(groupRows, length - row)]);
    first += length;
  }
  return groups;
}
