import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileStore } from '../../../src/store/index.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { storeConformance } from './suite.js';

storeConformance('embedded store', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'millrace-store-'));
  const clock = new VirtualClock();
  const store = await fileStore(directory).open({ clock });
  return {
    store,
    async advance(ms) {
      await clock.advance(ms);
      // A read in a transaction answers after all that was written before it.
      await store.txn({ compares: [], success: [{ type: 'get', key: 'none' }] });
    },
    async dispose() {
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
});
