/**
 * Shares of a rate: several nodes on one store whose network misbehaves. At no moment do those that may act have more than
 * the whole between them, and once the network is good again they have all of it, each what is fair.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Coordination } from '../../../src/coordination/coordination.js';
import type { Budget } from '../../../src/engine/rates/budget.js';
import { Budgets } from '../../../src/engine/rates/budgets.js';
import type { SimConnection } from '../../../src/testing/sim-connection.js';
import { simStore } from '../../../src/testing/sim-store.js';
import { type SimProcess, World } from '../../../src/testing/world.js';

const TTL_MS = 3_000;

interface Node {
  readonly process: SimProcess;
  readonly connection: SimConnection;
  readonly budget: Budget;
  isDead: boolean;
  /** What it may act by now. */
  readonly share: number;
}

function setup(seed: number) {
  const world = new World(seed);
  const store = simStore({ seed, shared: true, clock: world.clock });
  const nodes: Node[] = [];
  const join = async (): Promise<Node> => {
    const name = `n${nodes.length}`;
    const process = world.spawn(name);
    const { clock } = process;
    const random = world.random.fork(name);
    const connection = await store.open({ clock });
    const coordination = new Coordination(
      { clock, random, store: connection },
      { ttlMs: TTL_MS, node: name, label: name, record: {}, isMember: true, locking: 'queueing' },
    );
    const { session, members } = coordination;
    const budgets = new Budgets({ clock, random, store: connection, session, members });
    const budget = budgets.add('l/task/work', 1, () => {});
    const node: Node = {
      process,
      connection,
      budget,
      isDead: false,
      get share() {
        return this.isDead || session.state !== 'live' ? 0 : budget.share;
      },
    };
    nodes.push(node);
    // One that finds no store has no share.
    coordination.start().then(
      () => budgets.start(),
      () => {},
    );
    return node;
  };
  const sum = (): number => nodes.reduce((total, { share }) => total + share, 0);
  /** Lets time pass, and looks at every step. */
  const watch = async (ms: number): Promise<void> => {
    const endMs = world.nowMs + ms;
    while (world.nowMs < endMs) {
      await world.advance(1);
      assert.ok(sum() <= 1 + 1e-9, `seed ${seed}, ${world.nowMs} ms: ${sum()}`);
    }
  };
  const until = async (what: string, holds: () => boolean): Promise<void> => {
    for (let i = 0; i < 300 && !holds(); i++) await watch(100);
    assert.ok(holds(), `seed ${seed}: ${what}; shares ${nodes.map(({ share }) => share)}`);
  };
  return { world, store, nodes, join, sum, watch, until };
}

test('who comes gets its part, who leaves or dies leaves it to the others', async () => {
  const { nodes, join, sum, watch, until } = setup(1);
  await join();
  await until('the first has all of it', () => nodes[0]!.share === 1);
  await join();
  await join();
  const isEven = (shares: readonly number[]) =>
    shares.every((share) => Math.abs(share - 1 / shares.length) < 0.03);
  await until('all have a third', () => isEven(nodes.map(({ share }) => share)) && sum() > 0.97);
  nodes[1]!.isDead = true;
  nodes[1]!.process.kill();
  nodes[1]!.connection.kill();
  await until('two have a half', () => isEven([nodes[0]!.share, nodes[2]!.share]));
  await watch(1_000);
});

test('whatever the network does, all of them together never have more than the whole', async () => {
  for (let seed = 1; seed <= 4; seed++) {
    const { world, store, nodes, join, sum, watch, until } = setup(seed);
    const random = world.random.fork('plan');
    const faults = {
      answerLost: 0.15,
      requestLost: 0.1,
      late: 0.1,
      readFailed: 0.1,
      watchCut: 0.05,
      latency: { minMs: 1, maxMs: 60 },
    };
    /** Who finds no store when it starts takes no part: so the network is good for that long. */
    const joinWell = async (): Promise<void> => {
      store.setFaults({ latency: { minMs: 1, maxMs: 3 } });
      await join();
      await watch(100);
      store.setFaults(faults);
    };
    for (let i = 0; i < 3; i++) await joinWell();
    for (let step = 0; step < 25; step++) {
      const node = nodes[random.u32() % nodes.length]!;
      const what = random.u32() % 7;
      if (what === 0 && nodes.length < 6) await joinWell();
      if (what === 1) node.budget.want((random.u32() % 5) / 4);
      if (what === 2) node.connection.partition();
      if (what === 3) for (const each of nodes) each.connection.heal();
      if (what === 4) node.process.pause();
      if (what === 5) for (const each of nodes) each.process.resume();
      if (what === 6 && nodes.filter(({ isDead }) => !isDead).length > 2) {
        node.isDead = true;
        node.process.kill();
        node.connection.kill();
      }
      await watch(random.u32() % 1_500);
    }
    store.setFaults({ latency: { minMs: 1, maxMs: 3 } });
    for (const node of nodes) {
      if (node.isDead) continue;
      node.connection.heal();
      node.process.resume();
      node.budget.want(1);
    }
    await until('they have all of it again', () => sum() > 0.9);
  }
});
