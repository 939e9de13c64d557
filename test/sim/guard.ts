/**
 * During a run nothing may come from outside the simulated world: the globals that bring in time or chance throw.
 */
const nothing = (name: string) => (): never => {
  throw new Error(`${name} was used during a simulation; take it from a port`);
};

/** Replaces the globals. @returns what puts them back */
export function forbidGlobals(): () => void {
  const saved = {
    setTimeout: globalThis.setTimeout,
    setInterval: globalThis.setInterval,
    setImmediate: globalThis.setImmediate,
  };
  const { now } = Date;
  const { random } = Math;
  const monotonic = performance.now;
  for (const name of Object.keys(saved)) Object.assign(globalThis, { [name]: nothing(name) });
  Date.now = nothing('Date.now');
  Math.random = nothing('Math.random');
  performance.now = nothing('performance.now');
  return () => {
    Object.assign(globalThis, saved);
    Date.now = now;
    Math.random = random;
    performance.now = monotonic;
  };
}
