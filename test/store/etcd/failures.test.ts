import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  errorOf,
  isNoSpace,
  isNotApplied,
  isOverload,
  isStaleToken,
  isWorthRepeating,
} from '../../../src/store/etcd/failures.js';
import { CallFailure, GrpcStatus } from '../../../src/store/etcd/transport.js';

function said(status: number, message: string): CallFailure {
  return new CallFailure(status, message, { wasSent: true, isFromServer: true });
}

const cut = new CallFailure(GrpcStatus.UNAVAILABLE, 'connection reset', { wasSent: true });
const late = new CallFailure(GrpcStatus.DEADLINE_EXCEEDED, 'no answer', { wasSent: true });
const unsent = new CallFailure(GrpcStatus.UNAVAILABLE, 'no connection', { wasSent: false });
const noSpace = said(8, 'etcdserver: mvcc: database space exceeded');
const overload = said(8, 'etcdserver: too many requests');
const leaderChanged = said(14, 'etcdserver: leader changed');
const timedOut = said(14, 'etcdserver: request timed out');

describe('etcd failures', () => {
  test('what was not sent, and what the server refused, was not applied', () => {
    for (const failure of [
      unsent,
      overload,
      said(3, 'etcdserver: duplicate key given in txn request'),
      said(3, 'etcdserver: request is too large'),
      said(5, 'etcdserver: requested lease not found'),
      said(7, 'etcdserver: permission denied'),
      said(16, 'etcdserver: invalid auth token'),
    ]) {
      assert.equal(isNotApplied(failure), true, failure.message);
    }
  });

  test('a cut, a deadline and a change of leaders leave it unknown', () => {
    for (const failure of [cut, late, leaderChanged, timedOut, said(1, 'context canceled')]) {
      assert.equal(isNotApplied(failure), false, failure.message);
    }
  });

  test('a code that this side gave says nothing about the server', () => {
    const tooBig = new CallFailure(GrpcStatus.RESOURCE_EXHAUSTED, 'answer too large', {
      wasSent: true,
    });
    assert.equal(isNotApplied(tooBig), false);
    assert.equal(errorOf(tooBig, 'range').code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
  });

  test('reads are repeated after cuts and overload, not after answers that will not change', () => {
    for (const failure of [cut, unsent, leaderChanged, timedOut, overload]) {
      assert.equal(isWorthRepeating(failure), true, failure.message);
    }
    for (const failure of [noSpace, late, said(7, 'etcdserver: permission denied')]) {
      assert.equal(isWorthRepeating(failure), false, failure.message);
    }
  });

  test('no space and overload are capacity, with the time to wait', () => {
    for (const failure of [noSpace, overload]) {
      const error = errorOf(failure, 'txn');
      assert.equal(error.code, 'ERR_MILLRACE_STORE_FULL');
      assert.equal(error.kind, 'capacity');
      assert.ok(Number(error.details.retryAfterMs) > 0);
    }
    assert.equal(isOverload(overload), true);
    assert.deepEqual([isOverload(noSpace), isNoSpace(noSpace)], [false, true]);
  });

  test('compacted and future revision share a status and are told apart by their text', () => {
    const codeOf = (message: string) => errorOf(said(11, message), 'range').code;
    assert.equal(
      codeOf('etcdserver: mvcc: required revision has been compacted'),
      'ERR_MILLRACE_COMPACTED',
    );
    assert.equal(
      codeOf('etcdserver: mvcc: required revision is a future revision'),
      'ERR_MILLRACE_INVALID_OPTION',
    );
  });

  test('a lease that is gone is a lost lease', () => {
    const gone = said(5, 'etcdserver: requested lease not found');
    assert.equal(errorOf(gone, 'txn').code, 'ERR_MILLRACE_LEASE_LOST');
  });

  test('a token is stale when the server no longer knows it, or users changed since', () => {
    assert.equal(isStaleToken(said(16, 'etcdserver: invalid auth token')), true);
    assert.equal(isStaleToken(said(3, 'etcdserver: revision of auth store is old')), true);
    assert.equal(isStaleToken(said(7, 'etcdserver: permission denied')), false);
  });
});
