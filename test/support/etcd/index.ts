/** Real etcd servers for tests and benches. */
export { NotToBeHad } from '../debian.js';
export { type EtcdBinaries, etcdBinaries } from './binaries.js';
export {
  CertificateAuthority,
  type CertificateOptions,
  type KeyAlgorithm,
  type KeyPair,
} from './certificates.js';
export {
  EtcdCluster,
  type EtcdClusterOptions,
  type EtcdTls,
  type EtcdTlsOptions,
  type LimitedUser,
} from './cluster.js';
export type { EtcdNode } from './node.js';
