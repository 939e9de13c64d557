/** The contenders by name. A process loads this and uses one. */
import { TimerQueue } from '../../../src/timing/index.js';
import { type HeapTimer, ObjectHeap } from './object-heap.js';
import { ObjectWheel, type WheelTimer } from './object-wheel.js';
import type { TimerSet, TimerSetKind } from './timer-set.js';
import { TypedWheel } from './typed-wheel.js';

export type AnyKind = TimerSetKind<number> | TimerSetKind<HeapTimer> | TimerSetKind<WheelTimer>;

/** A contender of the benches. @throws when there is none of this name */
export function timerSetKind(name: string): AnyKind {
  switch (name) {
    case 'millrace':
      return { name, make: millraceQueue, makeHandles: (count) => new Float64Array(count) };
    case 'js-typed-wheel':
      return {
        name,
        make: () => new TypedWheel(),
        makeHandles: (count) => new Float64Array(count),
      };
    case 'js-object-wheel':
      return { name, make: () => new ObjectWheel(), makeHandles: objectHandles };
    case 'js-heap':
      return { name, make: () => new ObjectHeap(), makeHandles: objectHandles };
    default:
      throw new Error(`there is no timer set '${name}'`);
  }
}

/** TimerQueue itself, not a wrapper, so that no call goes through another one. */
function millraceQueue(): TimerSet<number> {
  const queue = new TimerQueue() as TimerQueue & { offHeapBytes(): number };
  queue.offHeapBytes = () => queue.stats().bytes;
  return queue;
}

function objectHandles<Handle>(count: number): Handle[] {
  return new Array<Handle>(count);
}
