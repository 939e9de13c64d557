/**
 * What healing may do to a runtime, and nothing else: the port between rules that decide and the parts that act.
 *
 * Every lever can be pulled twice and put back. None loses a task: what a lever holds back waits.
 */
export interface Levers {
  /** Whether tasks of this type run here. */
  runsType(type: string): boolean;
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
  /** How long each commit waits for more to share it: fewer and larger ones, and everybody waits longer; 0: no longer than it must. */
  lingerCommits(lingerMs: number): void;
  /**
   * Replaces worker threads by new ones, the oldest first, one at a time: the successor is ready before its predecessor gets no
   * more tasks, and that ends with the last it has. Resolves when it has ended.
   *
   * @param threadId - replaces this one rather than the oldest, if it is there
   */
  replaceThreads(count: 'one' | 'all', threadId?: number): Promise<void>;
  /** Executions that have begun and not ended. */
  readonly running: number;
  /** Whether nothing new begins: tasks wait, what runs goes on. */
  holdStarts(isHeld: boolean): void;
  /** Has the threads tell what they have open, and look closely at what their tasks open for so long. */
  inspectThreads(forMs: number): void;
  /**
   * Writes down what the process is doing.
   *
   * @param evidence - plain data to be written beside it
   * @returns the file
   */
  captureDiagnostics(evidence?: object): Promise<string>;
  /** Closes the runtime and ends the process with this code, for a supervisor to start it anew. */
  exit(code: number): Promise<void>;
}
