/**
 * Which request runs where. Slots share one pool of cache pages; a request holds as many as it may come to need, and
 * what it leaves behind stays in its slot until others need the pages, so that a prompt that continues it finds it there.
 */

import { worthWaiting } from './slots.ts';

/** A request as the scheduler sees it. */
export type Job = {
  /** Of those that wait, higher ones start first. */
  priority: number;
  /** Pages for prompt, output and the rows behind them. At most those of the pool. */
  pageCount: number;
  /** First tokens of its prompt that this idle or draining slot holds, which has its first `pageCount` pages still. */
  sharedTokens(slot: number, pageCount: number): number;
  /**
   * Runs it; the first `keptCount` of `pages` hold what they held when the slot was used last. The promise resolves when
   * the slot is free again; it must not reject.
   */
  run(slot: number, pages: readonly number[], keptCount: number): Promise<void>;
};

export type Scheduler = {
  /**
   * By priority, then first come, first served: a job that must wait for pages lets none behind it pass. Resolves when it
   * has ended.
   */
  add(job: Job): Promise<void>;
  /** Runs `work`, of priority 0, when all before it has ended, and nothing beside it. */
  addExclusive<T>(work: () => Promise<T>): Promise<T>;
  /** Resolves when nothing runs or waits. */
  idle(): Promise<void>;
};

type Waiting = { job: Job | null; start: (slot: number, keptCount: number) => Promise<void>; end: () => void };

/**
 * @param isDraining whether the job of a busy slot has ended but for rounds under way. A prompt that continues it, as the
 * next turn of a chat does, waits for these rather than being fed anew elsewhere.
 */
export function createScheduler({
  slotCount,
  pageCount,
  isDraining = () => false,
}: {
  slotCount: number;
  pageCount: number;
  isDraining?: (slot: number) => boolean;
}): Scheduler {
  const free = Array.from({ length: pageCount }, (_, page) => page);
  /** Of each slot, in the order of their positions. */
  const owned: number[][] = Array.from({ length: slotCount }, () => []);
  const busy = new Set<number>();
  /** Slots by their last use, longest ago first. */
  const order = Array.from({ length: slotCount }, (_, slot) => slot);
  const waiting: Waiting[] = [];
  let exclusive = false;
  let whenIdle: (() => void)[] = [];

  /**
   * Gives `slot` its pages, from the slots that were idle longest if need be. Returns how many of them it had before; null
   * if running jobs hold too many.
   */
  const reserve = (slot: number, count: number): number | null => {
    const mine = owned[slot] as number[];
    const others = order.filter((other) => other !== slot && !busy.has(other));
    const available = others.reduce((sum, other) => sum + (owned[other] as number[]).length, mine.length + free.length);
    if (available < count) return null;
    free.push(...mine.splice(count));
    const keptCount = mine.length;
    for (const other of others) {
      if (mine.length + free.length >= count) break;
      // From its end: what it still has is the beginning of its sequence.
      const pages = owned[other] as number[];
      free.push(...pages.splice(Math.max(0, pages.length - (count - mine.length - free.length))));
    }
    mine.push(...free.splice(0, count - mine.length));
    return keptCount;
  };

  /** The slot that holds most of the job's prompt, of equals the one that was idle longest; null if it is to be waited for. */
  const choose = (job: Job): number | null => {
    let best: { slot: number; shared: number } | null = null;
    for (const slot of order) {
      if (busy.has(slot) && !isDraining(slot)) continue;
      const shared = job.sharedTokens(slot, (owned[slot] as number[]).length);
      if (busy.has(slot) && shared < worthWaiting) continue;
      if (best === null || shared > best.shared) best = { slot, shared };
    }
    return best === null || busy.has(best.slot) ? null : best.slot;
  };

  const startWaiting = (): void => {
    for (;;) {
      const next = waiting[0];
      if (next === undefined || exclusive) break;
      let slot = 0;
      let keptCount = 0;
      if (next.job === null) {
        if (busy.size > 0) break;
        exclusive = true;
      } else {
        const chosen = choose(next.job);
        const kept = chosen === null ? null : reserve(chosen, next.job.pageCount);
        if (chosen === null || kept === null) break;
        [slot, keptCount] = [chosen, kept];
        busy.add(slot);
        order.splice(order.indexOf(slot), 1);
        order.push(slot);
      }
      waiting.shift();
      void next.start(slot, keptCount).finally(() => {
        if (next.job === null) exclusive = false;
        else busy.delete(slot);
        next.end();
        startWaiting();
      });
    }
    if (waiting.length > 0 || busy.size > 0 || exclusive) return;
    for (const resolve of whenIdle) resolve();
    whenIdle = [];
  };

  const priorityOf = ({ job }: Pick<Waiting, 'job'>): number => job?.priority ?? 0;
  const enqueue = (job: Job | null, start: Waiting['start']): Promise<void> =>
    new Promise((end) => {
      const behind = waiting.findIndex((other) => priorityOf(other) < priorityOf({ job }));
      waiting.splice(behind < 0 ? waiting.length : behind, 0, { job, start, end });
      startWaiting();
    });

  return {
    add: (job) => enqueue(job, (slot, keptCount) => job.run(slot, [...(owned[slot] as number[])], keptCount)),
    addExclusive: (work) =>
      new Promise((resolve, reject) => {
        void enqueue(null, () => work().then(resolve, reject));
      }),
    idle: () =>
      new Promise((resolve) => {
        whenIdle.push(resolve);
        startWaiting();
      }),
  };
}
