/**
 * Whether an alert means this node. Prometheus puts the address it scraped into the label `instance`; that is one of this
 * machine's addresses or names, and the port where this runtime listens.
 */
import { hostname, networkInterfaces } from 'node:os';

/**
 * @param names - what else this node is called in alerts
 * @param port - where it listens; asked for each, since it may start later
 */
export function identityOf(
  names: readonly string[],
  port: () => number | undefined,
): (instance: string) => boolean {
  return (instance) => {
    if (names.includes(instance)) return true;
    const [, host, ownPort] = /^\[?(.+?)\]?(?::(\d{1,5}))?$/.exec(instance) ?? [];
    if (host === undefined || (ownPort !== undefined && Number(ownPort) !== port())) return false;
    return addresses().has(host);
  };
}

function addresses(): Set<string> {
  const own = Object.values(networkInterfaces()).flatMap((one) => one ?? []);
  return new Set(['localhost', hostname(), ...own.map(({ address }) => address)]);
}
