// Red when the old connection is closed before the new one stands, or a request that its connection no longer took is told as failed.
import { test } from 'node:test';
import { rotateUnderLoad } from '../support/etcd/rotation.js';

test('certificates of client and server change every 2 s for a minute under load: no request fails', (t) =>
  rotateUnderLoad(t, 60_000));
