/**
 * Work that many ask for at once and that is done once: at most one run for each key is under way.
 *
 *   join    a run that is under way will do
 *   after   only a run that begins after the call will do: what it reads is not older than the call
 *
 *   run 1 |--------|          join here: run 1      after here: run 2, with everybody who came during run 1
 *   run 2           |-------|
 */
export class SharedRuns<T> {
  readonly #runs = new Map<string, Run<T>>();

  join(key: string, work: () => Promise<T>): Promise<T> {
    const run = this.#runs.get(key);
    return run === undefined ? this.#start(key, work) : run.promise;
  }

  after(key: string, work: () => Promise<T>): Promise<T> {
    const run = this.#runs.get(key);
    if (run === undefined) return this.#start(key, work);
    // Whoever starts when this one has ended starts after the call.
    run.next ??= run.promise.then(
      () => this.join(key, work),
      () => this.join(key, work),
    );
    return run.next;
  }

  #start(key: string, work: () => Promise<T>): Promise<T> {
    const promise = work().finally(() => this.#runs.delete(key));
    this.#runs.set(key, { promise, next: undefined });
    return promise;
  }
}

interface Run<T> {
  readonly promise: Promise<T>;
  next: Promise<T> | undefined;
}
