/**
 * What healing may do to a runtime, and nothing else: the port between rules that decide and the parts that act.
 *
 * Every lever can be pulled twice and put back. None loses a task: what a lever holds back waits.
 */
export interface Levers {
  /**
   * At most so many executions of a task type at once from now on; 0: none begins. Tasks wait, what runs goes on.
   *
   * @param atMost - undefined: as many as the task says
   */
  limitType(type: string, atMost: number | undefined): void;
  /** Refuses submits with a priority below this one; undefined: none is refused for its priority. */
  shedBelow(priority: number | undefined): void;
  /** Whether tasks may be claimed before there is a place for them: faster, and more writing. */
  allowClaimsAhead(isAllowed: boolean): void;
  /**
   * Replaces worker threads by new ones, the oldest first, one at a time: the successor is ready before its predecessor gets no
   * more tasks, and that ends with the last it has. Resolves when it has ended.
   */
  replaceThreads(count: 'one' | 'all'): Promise<void>;
  /** Writes down what the process is doing. @returns the file */
  captureDiagnostics(): Promise<string>;
  /** Closes the runtime and ends the process with this code, for a supervisor to start it anew. */
  exit(code: number): Promise<void>;
}
