import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createScheduler, type Scheduler } from '../../../src/speculative/scheduler.ts';

/** A job that runs until it is told to end. */
function addJob(scheduler: Scheduler, pageCount: number, sharedTokens: (slot: number) => number = () => 0) {
  const job = { slot: -1, pages: [] as readonly number[], keptCount: -1, end: () => {}, ended: Promise.resolve() };
  job.ended = scheduler.add({
    priority: 0,
    pageCount,
    sharedTokens,
    run: (slot, pages, keptCount) => {
      Object.assign(job, { slot, pages, keptCount });
      return new Promise((resolve) => {
        job.end = resolve;
      });
    },
  });
  return job;
}

const running = (jobs: { slot: number }[]) => jobs.map(({ slot }) => slot >= 0);

describe('jobs', () => {
  it('run beside each other while there are slots and pages, first come, first served', async () => {
    const scheduler = createScheduler({ slotCount: 2, pageCount: 10 });
    const jobs = [addJob(scheduler, 4), addJob(scheduler, 7), addJob(scheduler, 1)];
    // The second needs pages of the first; the third would fit, and waits behind it.
    expect(running(jobs)).toEqual([true, false, false]);
    jobs[0]!.end();
    await jobs[0]!.ended;
    expect(running(jobs)).toEqual([true, true, true]);
    expect(new Set([...jobs[1]!.pages, ...jobs[2]!.pages]).size).toBe(8);
  });

  it('of a higher priority start before those that wait, equals in the order of their arrival', async () => {
    const scheduler = createScheduler({ slotCount: 1, pageCount: 4 });
    const running = addJob(scheduler, 1);
    const started: string[] = [];
    const wait = (name: string, priority: number) =>
      scheduler.add({ priority, pageCount: 1, sharedTokens: () => 0, run: async () => void started.push(name) });
    const all = [wait('a', 0), wait('b', 5), wait('c', -1), wait('d', 5), wait('e', 0)];
    all.push(scheduler.addExclusive(async () => void started.push('exclusive')));
    all.push(wait('f', 1));
    expect(started).toEqual([]);
    running.end();
    await Promise.all(all);
    expect(started).toEqual(['b', 'd', 'f', 'a', 'e', 'exclusive', 'c']);
  });

  it('go where most of their prompt is, with its pages in their order', async () => {
    const scheduler = createScheduler({ slotCount: 3, pageCount: 20 });
    const first = addJob(scheduler, 3);
    const second = addJob(scheduler, 4);
    for (const job of [first, second]) job.end();
    await second.ended;
    const next = addJob(scheduler, 6, (slot) => (slot === second.slot ? 200 : slot === first.slot ? 100 : 0));
    expect(next.slot).toBe(second.slot);
    expect(next.pages.slice(0, 4)).toEqual(second.pages);
    expect(next.keptCount).toBe(4);
    // Of equals the slot that was idle longest: the one that was never used.
    expect([first.slot, second.slot]).not.toContain(addJob(scheduler, 1).slot);
  });

  it('wait for a slot that drains and holds most of their prompt, and for no other', async () => {
    const draining = new Set<number>();
    const scheduler = createScheduler({ slotCount: 3, pageCount: 20, isDraining: (slot) => draining.has(slot) });
    const turn = addJob(scheduler, 2);
    draining.add(turn.slot);
    // A start token in common is no reason.
    expect(addJob(scheduler, 1, (slot) => (slot === turn.slot ? 1 : 0)).slot).toBeGreaterThanOrEqual(0);
    const next = addJob(scheduler, 3, (slot) => (slot === turn.slot ? 30 : 0));
    expect(next.slot).toBe(-1);
    turn.end();
    await turn.ended;
    expect(next.slot).toBe(turn.slot);
    expect(next.keptCount).toBe(2);
  });

  it('take pages from the ends of idle slots, those idle longest first', async () => {
    const scheduler = createScheduler({ slotCount: 3, pageCount: 10 });
    const [old, recent] = [addJob(scheduler, 4), addJob(scheduler, 5)];
    for (const job of [old, recent]) job.end();
    await Promise.all([old.ended, recent.ended]);
    const next = addJob(scheduler, 3, (slot) => (slot === 2 ? 1 : 0)); // one page is free
    expect(next.pages).toHaveLength(3);
    const again = addJob(scheduler, 4, (slot) => (slot === old.slot ? 1 : 0));
    expect(again.pages.slice(0, 2)).toEqual(old.pages.slice(0, 2));
    // What it got back may have been written by another meanwhile.
    expect(again.keptCount).toBe(2);
  });
});

describe('exclusive work', () => {
  it('waits for all before it, and all behind it wait; its error is the caller’s', async () => {
    const scheduler = createScheduler({ slotCount: 2, pageCount: 4 });
    const before = addJob(scheduler, 1);
    const events: string[] = [];
    const work = scheduler.addExclusive(async () => {
      events.push('work');
      throw new Error('no');
    });
    const behind = addJob(scheduler, 1);
    expect(events).toEqual([]);
    before.end();
    await expect(work).rejects.toThrow('no');
    expect(events).toEqual(['work']);
    expect(behind.slot).toBeGreaterThanOrEqual(0);
  });
});

it('never gives a page to two, never more than there are, and starts all in the end', async () => {
  const jobs = fc.array(fc.record({ pages: fc.integer({ min: 1, max: 12 }), life: fc.integer({ min: 0, max: 5 }) }), {
    maxLength: 40,
  });
  await fc.assert(
    fc.asyncProperty(jobs, fc.integer({ min: 1, max: 4 }), async (specs, slotCount) => {
      const scheduler = createScheduler({ slotCount, pageCount: 12 });
      const live = new Map<number, readonly number[]>();
      let started = 0;
      for (const { pages: pageCount, life } of specs) {
        void scheduler.add({
          priority: life % 3,
          pageCount,
          sharedTokens: (slot) => (slot * 7 + pageCount) % 3,
          async run(slot, pages) {
            started += 1;
            expect(live.has(slot)).toBe(false);
            live.set(slot, pages);
            expect(pages).toHaveLength(pageCount);
            const all = [...live.values()].flat();
            expect(new Set(all).size).toBe(all.length);
            for (let i = 0; i < life; i++) await null;
            live.delete(slot);
          },
        });
      }
      await scheduler.idle();
      expect(started).toBe(specs.length);
    }),
    { numRuns: 300 },
  );
});
