/** The share of the soak that fits into the time of every change; 2,000 requests: test/nightly. */
import { it } from 'vitest';
import { soak } from './soak.ts';

// Seconds of a machine that does other things too say little of speed.
it('40 requests of every kind, four at a time, leave nothing behind', () => soak(40, { slowdown: 3 }));
