/**
 * The same language that tsc compiles: legacy decorators with metadata for Nest, imports left as they are written. For
 * jest, for programs that are run as sources, and for the lab.
 * @type {import('@swc/core').Options}
 */
export const SWC_OPTIONS = {
  sourceMaps: 'inline',
  jsc: {
    target: 'es2022',
    parser: { syntax: 'typescript', decorators: true },
    transform: {
      legacyDecorator: true,
      decoratorMetadata: true,
      useDefineForClassFields: true,
      verbatimModuleSyntax: true,
    },
    keepClassNames: true,
  },
};

/** For what calls the compiler itself. @type {import('@swc/core').Options} */
export const SWC_MODULE_OPTIONS = { ...SWC_OPTIONS, swcrc: false, module: { type: 'es6' } };
