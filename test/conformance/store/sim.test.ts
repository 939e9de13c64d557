import { simStore } from '../../../src/testing/sim-store.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { storeConformance } from './suite.js';

storeConformance('simulated store without faults', async () => {
  const clock = new VirtualClock();
  const store = await simStore().open({ clock });
  return { store, advance: (ms) => clock.advance(ms), dispose: () => store.close() };
});
