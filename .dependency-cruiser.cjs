/**
 * The import rules: the tree is the architecture, and imports point one way.
 *
 *   core  <-  timing, pool, store, telemetry, healing  <-  coordination, tenancy  <-  engine
 *         <-  millrace.ts  <-  index.ts, testing, cli, admin
 *
 * Each rule carries its reason, which is what a violation prints. Where a lower folder needs a service of a
 * higher one, `core` declares a small port and `millrace.ts` fills it. `scripts/lint.mjs` runs this.
 */

/** What each folder may import besides itself. What is not named here is above all of them and free. */
const BELOW = {
  core: [],
  timing: ['core'],
  pool: ['core'],
  store: ['core'],
  telemetry: ['core'],
  healing: ['core'],
  coordination: ['core', 'store'],
  tenancy: ['core', 'store'],
  engine: ['core', 'timing', 'pool', 'store', 'coordination'],
};

const REASON = {
  core: 'core is the vocabulary that everything shares: it knows nobody, or everybody would depend on everybody',
  timing:
    'timing is the native core by itself (millrace/timing): usable without pool, store and engine',
  pool: 'the pool is usable by itself (millrace/pool): its timers and hooks are ports that millrace.ts fills',
  store: 'a store keeps bytes and revisions: it must work under any user of the Store contract',
  telemetry:
    'telemetry only subscribes to the channels of core: nothing may start to depend on being observed',
  healing: 'healing acts through the Levers of core, so that it cannot reach around the runtime',
  coordination:
    'coordination is agreement over any Store, also without an engine (millrace/coordination)',
  tenancy: 'tenancy is metadata over any Store: it must not know what the tasks are that use it',
  engine:
    'the engine meets the rest through ports: who composes it (millrace.ts) also replaces parts in tests',
};

/** Where in src a vendor lives: one place to upgrade, to work around it, or to replace it. Benches are free. */
const VENDORS = [
  [
    'lmdb',
    'src/store/embedded/',
    'only the embedded store knows LMDB: other stores must not load its binary',
  ],
  ['etcd3|@grpc/[^/]+', 'src/store/etcd/', 'an embedded user never loads gRPC'],
  [
    'piscina',
    'src/pool/',
    'the pool hides who owns the threads, so that the engine runs on a simulated one',
  ],
  ['node-gyp-build', 'src/timing/', 'one place loads the .node file and explains how to get it'],
  [
    'hdr-histogram-js',
    'src/cli/',
    'percentiles are for tables and pages of commands; the runtime keeps its own sketches',
  ],
  [
    'pino[^/]*|@opentelemetry/[^/]+',
    'src/telemetry/',
    'other folders publish to channels and do not know who listens',
  ],
  [
    'croner',
    'src/engine/cron/',
    'one question is asked of the calendar: what comes after a moment',
  ],
  ['cockatiel', 'src/healing/', 'breakers are a matter of healing'],
  ['kafkajs|@platformatic/kafka', 'src/tenancy/kafka/', 'Kafka is one of several buses'],
];

const folders = Object.keys(BELOW);

module.exports = {
  forbidden: [
    ...folders.map((folder) => ({
      name: `${folder}-imports-downwards`,
      comment: REASON[folder],
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: '^src/', pathNot: [folder, ...BELOW[folder]].map((name) => `^src/${name}/`) },
    })),
    {
      name: 'composition-root-is-not-a-library',
      comment:
        'millrace.ts knows every part and is known by none of them: testing, cli and admin sit on top of it',
      severity: 'error',
      from: { path: '^src/millrace\\.ts$' },
      to: { path: '^src/(testing|cli|admin)/|^src/index\\.ts$' },
    },
    {
      name: 'cli-is-the-top',
      comment: 'importing the command line runs it',
      severity: 'error',
      from: { path: '^src/(?!cli/)' },
      to: { path: '^src/cli/' },
    },
    {
      name: 'stores-do-not-know-one-another',
      comment:
        'each kind of store is loaded by itself; what they share belongs beside them or into core',
      severity: 'error',
      from: { path: '^src/store/(memory|embedded|etcd)/' },
      to: { path: '^src/store/(memory|embedded|etcd)/', pathNot: '^src/store/$1/' },
    },
    {
      name: 'worker-entry-stays-small',
      comment:
        'worker-entry.ts is loaded by every thread: it reaches core and the worker half of the pool, so that a ' +
        'thread starts in milliseconds and has no main-thread state',
      severity: 'error',
      from: { path: '^src/pool/worker-entry\\.ts$' },
      to: {
        path: '^src/|^node_modules/',
        pathNot: [
          '^src/core/',
          // What both halves of the pool share, and the worker's own; worker-thread.ts is the other half's.
          '^src/pool/(batch-runner|batch-call|task-context|task-notes|last-words|task-children|messages|result-log|frame-text|worker-(?!thread)[^/]+)\\.ts$',
          '^node_modules/@standard-schema/spec/',
        ],
        reachable: true,
      },
    },
    {
      name: 'hermetic',
      comment:
        'core, coordination and engine take time, randomness and I/O from Clock, Random, Store and Pool: that is ' +
        'what lets the same code run under simulation. Three modules bring in none of these: diagnostics_channel calls ' +
        'whoever listens, async_hooks follows a chain of awaits, events tells how many may listen to a signal',
      severity: 'error',
      from: { path: '^src/(core|coordination|engine)/' },
      to: {
        dependencyTypes: ['core'],
        pathNot: '^(node:)?(diagnostics_channel|async_hooks|events)$',
      },
    },
    ...VENDORS.map(([vendor, home, reason]) => ({
      name: `home-of-${vendor.replace(/[^a-z0-9-].*/, '')}`,
      comment: reason,
      severity: 'error',
      from: { path: '^src/', pathNot: `^${home}` },
      to: { path: `^node_modules/(${vendor})(/|$)|^(${vendor})(/|$)` },
    })),
    {
      name: 'no-cycles',
      comment:
        'of two files in a cycle neither can be understood, tested or loaded without the other',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'resolves',
      comment: 'an import that does not resolve escapes every other rule',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'ships-what-it-imports',
      comment:
        'src is published: what it imports must be a dependency or a peer, not a development tool or test code',
      severity: 'error',
      from: { path: '^src/' },
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'],
        // A peer is installed for development too; who imports it says what to do when it is missing.
        dependencyTypesNot: ['npm-peer'],
        // Type packages of the runtime itself.
        pathNot: '^node_modules/@types/',
      },
    },
    {
      name: 'src-knows-no-tests',
      comment: 'src is published without test, bench, examples and scripts',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|bench|examples|scripts)/' },
    },
  ],
  options: {
    parser: 'swc',
    // Imports of types count: a type that points upwards is a dependency of the design, not of the program.
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    moduleSystems: ['es6'],
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'default'],
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json', '.d.ts'],
    },
  },
};
