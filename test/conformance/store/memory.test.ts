import { memoryStore } from '../../../src/store/index.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { storeConformance } from './suite.js';

storeConformance('memory store', async () => {
  const clock = new VirtualClock();
  const store = await memoryStore().open({ clock });
  return { store, advance: (ms) => clock.advance(ms), dispose: () => store.close() };
});
