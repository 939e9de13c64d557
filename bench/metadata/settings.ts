/** How much the metadata bench does. */
export interface MetadataSettings extends Readonly<Record<string, number>> {
  readonly scale: number;
  /** In the cache. */
  readonly entries: number;
  readonly entriesPerTenant: number;
  readonly valueBytes: number;
  readonly reads: number;
  /** Of the fleet. */
  readonly readers: number;
  readonly subscribers: number;
  readonly writes: number;
  readonly propagations: number;
  readonly pushes: number;
}
