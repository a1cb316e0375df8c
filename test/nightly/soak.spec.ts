/** 20,000 rounds of 2,000 requests. */
import { it } from 'vitest';
import { soak } from '../gpu/soak.ts';

it('2,000 requests of every kind, four at a time: nothing grows, nothing slows down', () =>
  soak(2000, { slowdown: 1.25 }));
