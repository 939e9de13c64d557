/** The stores that need no server. */
export { type FileStoreOptions, fileStore } from './embedded/file-store.js';
export type { HistoryOptions, StoreFactory } from './factory.js';
export { type MemoryStoreOptions, memoryStore } from './memory/memory-store.js';
