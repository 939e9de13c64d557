import assert from 'node:assert/strict';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { storeOf } from '../../src/cli/store-option.js';

const PASSWORD = 'MILLRACE_ETCD_PASSWORD';
const STORE = 'MILLRACE_STORE';
let before: (string | undefined)[];
beforeEach(() => {
  before = [process.env[PASSWORD], process.env[STORE]];
  delete process.env[PASSWORD];
  delete process.env[STORE];
});
afterEach(() => {
  for (const [index, name] of [PASSWORD, STORE].entries()) {
    const value = before[index];
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

const open = (options: Readonly<Record<string, string>>) =>
  storeOf({ positionals: [], options: new Map(Object.entries(options)) });
const refuses = (options: Readonly<Record<string, string>>, message: RegExp) =>
  assert.throws(() => open(options), { code: 'ERR_MILLRACE_INVALID_OPTION', message });

test('a place is memory, a folder, or a cluster with a namespace', () => {
  assert.equal(open({ store: 'memory' }).kind, 'memory');
  assert.equal(open({}).location, path.resolve('.millrace'));
  assert.equal(open({ store: 'etcd://a:1,b:2/orders' }).location, 'etcd://a:1,b:2/orders');
  assert.equal(open({ store: 'etcd://a:1' }).location, 'etcd://a:1/millrace');
});

test('the environment names the store when the option is absent', () => {
  process.env[STORE] = 'etcd://a:1/orders';
  assert.equal(open({}).location, 'etcd://a:1/orders');
  assert.equal(open({ store: 'memory' }).kind, 'memory');
});

test('another kind of store, and etcd options without etcd, are refused', () => {
  refuses({ store: 'redis://a:1' }, /no 'redis' store/);
  refuses({ store: 'memory', 'etcd-ca': 'ca.pem' }, /--etcd-ca is for etcd/);
  refuses({ store: 'etcd:///orders' }, /endpoint/);
});

test('a password comes from the environment only, and is in no message', () => {
  const store = 'etcd://a:1/orders';
  refuses({ store, 'etcd-user': 'me' }, /set MILLRACE_ETCD_PASSWORD/);
  process.env[PASSWORD] = 'secret';
  assert.equal(open({ store, 'etcd-user': 'me' }).kind, 'etcd');
  refuses({ store: 'etcd://me:secret@a:1/orders' }, /^(?!.*secret).*holds no user/);
});
