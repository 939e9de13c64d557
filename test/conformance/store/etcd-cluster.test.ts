import { etcdConformance } from './etcd.js';

etcdConformance(3);
