/**
 * One project per tier of tests. `npm test -- <tier>` runs them through test/tools/run-tests.ts; for one file:
 * `NODE_OPTIONS=--experimental-vm-modules npx jest --selectProjects unit workflows/contract/states.spec.ts`
 */
import { SWC_OPTIONS } from './test/tools/swc-options.mjs';

/**
 * @param {string} displayName the tier's name
 * @param {string[]} testMatch globs below the root
 * @param {import('jest').Config} extra
 * @returns {import('jest').Config}
 */
function tier(displayName, testMatch, extra = {}) {
  return {
    displayName,
    testMatch: testMatch.map((glob) => `<rootDir>/${glob}`),
    testEnvironment: 'node',
    // Planted violations are not tests, and a build must not be run instead of the sources.
    testPathIgnorePatterns: ['/node_modules/', '<rootDir>/dist/', '/fixtures/'],
    modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/test/rules/fixtures/'],
    extensionsToTreatAsEsm: ['.ts'],
    transform: { '^.+\\.ts$': ['@swc/jest', SWC_OPTIONS] },
    moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
    // Nest's decorators need the metadata API before the first class is read.
    setupFiles: ['reflect-metadata'],
    ...extra,
  };
}

/** @type {import('jest').Config} */
const config = {
  testTimeout: 30_000,
  projects: [
    tier('unit', [
      '{api,workflows,activities,host-worker,proto,migrations,cli,bench,test/lab,test/support,test/tools,test/chaos,test/runbook}/**/*.spec.ts',
    ]),
    tier('rules', ['test/rules/**/*.spec.ts']),
    tier('compose', ['test/compose/**/*{.,-}spec.ts', 'test/cluster/**/*.spec.ts']),
    tier('db', ['test/db/**/*{.,-}spec.ts']),
    tier('workflow', ['test/workflow/**/*{.,-}spec.ts'], {
      globalSetup: '<rootDir>/test/support/workflow-tier-setup.mjs',
      globalTeardown: '<rootDir>/test/support/workflow-tier-teardown.mjs',
    }),
    tier('conformance', ['test/{conformance,support}/**/*.host-spec.ts']),
    tier('e2e', ['test/e2e/**/*.e2e-spec.ts'], {
      globalSetup: '<rootDir>/test/support/e2e-tier-setup.mjs',
      globalTeardown: '<rootDir>/test/support/e2e-tier-teardown.mjs',
    }),
    tier('runbook', ['test/runbook/**/*.runbook-spec.ts'], {
      globalSetup: '<rootDir>/test/runbook/runbook-tier-setup.mjs',
      globalTeardown: '<rootDir>/test/support/e2e-tier-teardown.mjs',
    }),
    // What runs inside the lab has a configuration of its own, test/lab/jest-in-lab.config.mjs.
    tier('lab-trials', ['test/lab/**/*.lab-spec.ts']),
    tier('cluster', ['test/cluster/**/*.host-spec.ts']),
  ],
};

export default config;
