/**
 * Room: how much room tasks of this engine take in the queue, for whoever counts it (pool/admission.ts). A submitter has taken room
 * for its task before it comes here; what the engine tells is what changes without one.
 */
export class Room {
  /** Called when ends are durable, or tasks are somebody else's from now on, and their room is free. */
  onReleased: ((bytes: number, tasks: number) => void) | undefined;
  /** Called with what is open in the store and nobody here has taken room for. */
  onRecovered: ((bytes: number, tasks: number) => void) | undefined;
  /** What there is room for, and lets go of; for the load. */
  here: (() => { readonly room: number; readonly endedPerSecond: number }) | undefined;

  release(bytes: number, tasks: number): void {
    this.onReleased?.(bytes, tasks);
  }

  occupy(bytes: number, tasks: number): void {
    this.onRecovered?.(bytes, tasks);
  }
}
