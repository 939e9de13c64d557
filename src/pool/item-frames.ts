/**
 * Batch frames of single items, and their results, without an object per record: BatchPool's share of a task's cost
 * on the main thread is mostly here. The layouts are those of core/records.ts.
 */
import { FrameKind, FrameWriter, openFrame } from '../core/frame.js';
import { isOutcome, Outcome } from '../core/states.js';
import { FrameText } from './frame-text.js';
import { ITEM } from './messages.js';

/** Builds batches of items. Reusable: what it finished is in a buffer of its own. */
export class ItemFrameWriter {
  readonly #writer = new FrameWriter(FrameKind.BATCH);
  /** Of all items, written in one go: a write costs more than a short text. */
  #json = '';
  #jsonBytes = 0;

  /** Appends an item whose slot is its position. */
  add(json: string, byteLength: number): void {
    const writer = this.#writer;
    const type = writer.addString(ITEM);
    const nothing = writer.addString('');
    const slot = writer.count;
    const at = writer.addRecord();
    const view = writer.view;
    view.setUint32(at, slot, true);
    view.setUint16(at + 4, type, true);
    view.setUint16(at + 6, nothing, true);
    view.setUint16(at + 16, 1, true);
    view.setUint16(at + 24, nothing, true);
    view.setUint32(at + 32, this.#jsonBytes, true);
    view.setUint32(at + 36, byteLength, true);
    this.#json += json;
    this.#jsonBytes += byteLength;
  }

  finish(): Uint8Array<ArrayBuffer> {
    this.#writer.addText(this.#json, this.#jsonBytes);
    const frame = this.#writer.finish();
    this.#writer.reset();
    this.#json = '';
    this.#jsonBytes = 0;
    return frame;
  }
}

/** Calls back for each record of a results frame. `json` is '' for `undefined`. */
export function readResults(
  frame: Uint8Array,
  each: (slot: number, outcome: Outcome, runMs: number, json: string) => void,
): void {
  const reader = openFrame(frame, FrameKind.RESULTS);
  const { view, count } = reader;
  const text = new FrameText(frame, view.getUint32(20, true));
  for (let index = 0; index < count; index++) {
    const at = reader.recordAt(index);
    const outcome = view.getUint16(at + 4, true);
    const length = view.getUint32(at + 20, true);
    each(
      view.getUint32(at, true),
      isOutcome(outcome) ? outcome : Outcome.FAILED_FOR_GOOD,
      view.getFloat64(at + 8, true),
      length === 0 ? '' : (text.at(view.getUint32(at + 16, true), length) ?? ''),
    );
  }
}
