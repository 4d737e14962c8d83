/**
 * Jest inside the lab, where the sources are compiled already (compile-tree.ts): no compiler is loaded, and only folders
 * with sources are searched. Both matter under emulation.
 */

/** @type {import('jest').Config} */
const config = {
  rootDir: '../..',
  roots: ['<rootDir>/test', '<rootDir>/host-worker'],
  testMatch: ['<rootDir>/test/{conformance,support,lab}/**/*.host-spec.js'],
  testEnvironment: 'node',
  testTimeout: 120_000,
  transform: {},
  modulePathIgnorePatterns: ['<rootDir>/test/rules/fixtures/'],
  setupFiles: ['reflect-metadata'],
  watchman: false,
  reporters: ['<rootDir>/test/lab/lab-reporter.cjs'],
};

export default config;
