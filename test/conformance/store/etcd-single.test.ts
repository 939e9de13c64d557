import { etcdConformance } from './etcd.js';

etcdConformance(1);
