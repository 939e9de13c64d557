/**
 * What native/task_binding.cc exports. It trusts its arguments, but for handles, which it refuses when they name
 * nothing; the classes of this folder check the rest. Results beyond one number come back in the control block,
 * whose layout native/task_binding.cc draws.
 */
import { native } from './native.js';

/** A table inside the native core; only ever handed back to it. */
export type NativeTable = { readonly __nativeTable: unique symbol };
/** A ready queue inside the native core. */
export type NativeReadyQueue = { readonly __nativeReadyQueue: unique symbol };

export interface NativeTasks {
  create(
    control: ArrayBuffer,
    startMonoMs: number,
    ageingMs: number,
    executor: string,
  ): NativeTable;
  close(table: NativeTable): void;
  defineType(
    table: NativeTable,
    name: string,
    place: number,
    limit: number,
    isJustInTime: boolean,
    perKey: number,
    wallMs: number,
    monoMs: number,
  ): number;
  setWeight(table: NativeTable, tenant: string, weight: number): void;
  stopTenant(table: NativeTable, tenant: string, isStopped: boolean): void;
  addCredits(
    table: NativeTable,
    type: number,
    ofEachTenant: boolean,
    credits: number,
    max: number,
  ): number;
  tenantCredits(table: NativeTable, type: number, tenant: string): number;
  spentTenants(table: NativeTable): number;
  typeName(table: NativeTable, type: number): string | undefined;
  typeState(table: NativeTable, type: number): number | undefined;
  add(
    table: NativeTable,
    frame: Uint8Array,
    ref: string,
    wallMs: number,
    monoMs: number,
    dueMonoMs: Float64Array | undefined,
    hold: boolean,
  ): number;
  applyOverlay(table: NativeTable, segment: number, frame: Uint8Array): boolean;
  resume(table: NativeTable, segment: number, wallMs: number, monoMs: number): number;
  hold(table: NativeTable, segment: number): boolean;
  shiftWaits(table: NativeTable, segment: number, byMs: number): void;
  release(table: NativeTable, segment: number): number;
  forget(table: NativeTable, task: number): boolean;
  find(table: NativeTable, ref: string): number;
  taskAt(table: NativeTable, segment: number, index: number): number;
  drop(table: NativeTable, segment: number): boolean;
  advance(table: NativeTable, wallMs: number, monoMs: number, budget: number): number;
  nextDue(table: NativeTable): number;
  takeExpired(table: NativeTable): number;
  takeUnhandled(table: NativeTable): number;
  takeable(table: NativeTable, place: number, isAlone: boolean, max: number): number;
  claim(
    table: NativeTable,
    cut: number,
    place: number,
    tasksMax: number,
    segmentsMax: number,
    bytesMax: number,
    workMsMax: number,
    mode: number,
    wallMs: number,
    monoMs: number,
  ): number;
  measure(table: NativeTable, batch: number): number;
  launch(table: NativeTable, batch: number, token: number, frame: Uint8Array): void;
  applyResults(
    table: NativeTable,
    batch: number,
    frame: Uint8Array,
    wallMs: number,
    monoMs: number,
  ): number;
  endBatch(table: NativeTable, batch: number): number;
  unclaim(table: NativeTable, batch: number, wallMs: number, monoMs: number): number;
  unreported(table: NativeTable, batch: number): number;
  typesOf(table: NativeTable, batch: number): number;
  placeOf(table: NativeTable, task: number): number;
  executorOf(table: NativeTable, task: number): string | undefined;
  retry(
    table: NativeTable,
    task: number,
    dueWallMs: number,
    dueMonoMs: number,
    spent: boolean,
    wallMs: number,
    monoMs: number,
  ): boolean;
  reschedule(
    table: NativeTable,
    task: number,
    dueWallMs: number,
    dueMonoMs: number,
    byDate: boolean,
    wallMs: number,
    monoMs: number,
  ): number;
  redrive(table: NativeTable, task: number, wallMs: number, monoMs: number): boolean;
  end(
    table: NativeTable,
    task: number,
    state: number,
    bytes: Uint8Array,
    wallMs: number,
    monoMs: number,
  ): boolean;
  noteLoss(table: NativeTable, task: number): number;
  isolate(table: NativeTable, task: number): boolean;
  cancel(
    table: NativeTable,
    task: number,
    bytes: Uint8Array,
    wallMs: number,
    monoMs: number,
  ): number;
  watch(table: NativeTable, task: number): number;
  unwatch(table: NativeTable, task: number): void;
  view(table: NativeTable, task: number): boolean;
  bytesOf(table: NativeTable, task: number, which: 3): string | undefined;
  bytesOf(table: NativeTable, task: number, which: 0 | 1 | 2): Uint8Array<ArrayBuffer> | undefined;
  ref(table: NativeTable, segment: number): string | undefined;
  viewSegment(table: NativeTable, segment: number): boolean;
  beginCut(table: NativeTable): number;
  firstDirty(table: NativeTable): number;
  file(
    table: NativeTable,
    cut: number,
    segment: number,
    keepMask: number,
    operationsLeft: number,
    bytesLeft: number,
  ): Uint8Array<ArrayBuffer> | undefined;
  deadLetter(table: NativeTable, task: number): Uint8Array<ArrayBuffer> | undefined;
  overlay(table: NativeTable, segment: number): Uint8Array<ArrayBuffer> | undefined;
  touched(table: NativeTable, cut: number, from: number): number;
  settle(table: NativeTable, cut: number): Uint8Array<ArrayBuffer> | undefined;
  takeEnded(table: NativeTable, from: number): number;
  revert(table: NativeTable, cut: number): boolean;
  bytes(table: NativeTable): number;
  check(table: NativeTable): boolean;
}

export interface NativeReady {
  create(commands: ArrayBuffer, ageingMs: number): NativeReadyQueue;
  flush(queue: NativeReadyQueue, commands: number): void;
  take(queue: NativeReadyQueue, commands: number, out: Uint32Array): number;
  setWeight(queue: NativeReadyQueue, tenant: number, weight: number): void;
  tenants(queue: NativeReadyQueue, used: Uint32Array): void;
  bytes(queue: NativeReadyQueue): number;
  close(queue: NativeReadyQueue): void;
}

const { tasks, ready } = native as unknown as {
  readonly tasks: NativeTasks;
  readonly ready: NativeReady;
};

export const nativeTasks: NativeTasks = tasks;
export const nativeReady: NativeReady = ready;
