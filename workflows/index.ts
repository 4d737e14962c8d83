export { CreateSandbox } from './create-sandbox.workflow.js';
export { DestroySandbox } from './destroy-sandbox.workflow.js';
export { PauseSandbox } from './pause-sandbox.workflow.js';
export { ResumeSandbox } from './resume-sandbox.workflow.js';
export { SandboxTtl } from './sandbox-ttl.workflow.js';
export { TemplateBuild } from './template-build.workflow.js';
