import { it } from 'vitest';
import { failAllocations } from '../gpu/allocation.ts';

it('each allocation of a load fails, one after another', async () => {
  const total = await failAllocations(() => 1);
  console.log(`${total} allocations`);
});
