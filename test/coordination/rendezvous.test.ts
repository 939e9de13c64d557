import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Candidate, ownerOf } from '../../src/coordination/rendezvous.js';

const THINGS = Array.from({ length: 4_000 }, (_, i) => `o/queue${i % 7}/${i.toString(36)}`);

const candidates = fc.uniqueArray(
  fc.record({
    node: fc.string({ minLength: 1, maxLength: 12 }),
    weight: fc.constantFrom(0.5, 1, 1, 1, 2, 3),
  }),
  { minLength: 1, maxLength: 8, selector: ({ node }) => node },
);

const ownersOf = (nodes: readonly Candidate[]): (string | undefined)[] =>
  THINGS.map((thing) => ownerOf(thing, nodes));

test('shares are proportional to weights', () => {
  fc.assert(
    fc.property(candidates, (nodes) => {
      const owners = ownersOf(nodes);
      const total = nodes.reduce((sum, { weight }) => sum + weight, 0);
      for (const { node, weight } of nodes) {
        const share = weight / total;
        const had = owners.filter((owner) => owner === node).length;
        // Six standard deviations of a binomial: chance alone fails once in 10^9.
        const slack = 6 * Math.sqrt(THINGS.length * share * (1 - share)) + 1;
        assert.ok(
          Math.abs(had - THINGS.length * share) <= slack,
          `${node} has ${had} of ${THINGS.length} for a share of ${share}`,
        );
      }
    }),
    { numRuns: 60 },
  );
});

test('a node that leaves gives up what it had, and nothing else moves; the same when it comes', () => {
  fc.assert(
    fc.property(candidates, fc.nat(), (nodes, pick) => {
      const gone = nodes[pick % nodes.length]!;
      const before = ownersOf(nodes);
      const after = ownersOf(nodes.filter((node) => node !== gone));
      before.forEach((owner, i) => {
        if (owner !== gone.node) assert.equal(after[i], owner);
        else assert.notEqual(after[i], gone.node);
      });
    }),
    { numRuns: 60 },
  );
});

test('more weight only takes things over, less only gives them up', () => {
  fc.assert(
    fc.property(candidates, fc.nat(), (nodes, pick) => {
      const grown = nodes[pick % nodes.length]!.node;
      const before = ownersOf(nodes);
      const after = ownersOf(
        nodes.map(({ node, weight }) => ({ node, weight: node === grown ? weight * 2 : weight })),
      );
      before.forEach((owner, i) => {
        assert.ok(after[i] === owner || after[i] === grown);
      });
    }),
    { numRuns: 60 },
  );
});

test('the order of candidates does not matter', () => {
  fc.assert(
    fc.property(candidates, (nodes) => {
      assert.deepEqual(ownersOf(nodes), ownersOf([...nodes].reverse()));
    }),
    { numRuns: 20 },
  );
});

test('nobody, and who has no weight, owns nothing', () => {
  assert.equal(ownerOf('x', []), undefined);
  for (const weight of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.equal(ownerOf('x', [{ node: 'a', weight }]), undefined);
    const nodes = [
      { node: 'a', weight },
      { node: 'b', weight: 1e-9 },
    ];
    assert.equal(ownerOf('x', nodes), 'b');
  }
});

test('who owns what is the same in every version: a mixed cluster would hand shards to and fro', () => {
  const nodes = ['alpha', 'beta', 'gamma'].map((node) => ({ node, weight: 1 }));
  const owners = Array.from({ length: 12 }, (_, i) =>
    ownerOf(`o/default/0${i.toString(36)}`, nodes),
  );
  assert.equal(owners.map((owner) => owner?.[0]).join(''), 'ggbbaggaagaa');
});
