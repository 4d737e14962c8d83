import type { MemoryLossPolicy } from '../../workflows/contract/operations.js';
import { CliError } from '../cli-error.js';
import type { CliConfig } from '../config.js';
import { waitForOperation } from '../operation-wait.js';
import { findApi, RestClient } from '../rest-client.js';
import type { CreateRequest, Sandbox } from '../rest-types.js';
import { fullSandboxId } from '../sandbox-id.js';
import { StepReport } from '../step-report.js';
import { printJson } from '../tables.js';
import { policyChanges, type NetworkOptions } from './network-options.js';

export interface WaitOptions {
  wait: boolean;
  json: boolean;
}

export interface CreateOptions extends WaitOptions, NetworkOptions {
  template?: string;
  vcpus?: number;
  memory?: number;
  timeout?: number;
  onTimeout?: 'pause' | 'destroy';
  env?: Record<string, string>;
  metadata?: Record<string, string>;
  cold: boolean;
  onMemoryLoss?: MemoryLossPolicy;
  idempotencyKey?: string;
}

export async function createSandbox(config: CliConfig, options: CreateOptions): Promise<void> {
  const client = new RestClient(findApi(config));
  const started = await client.create(createRequest(options), options.idempotencyKey);
  const sandbox = await settle(client, started, 'create', options);
  if (options.json) return printJson(sandbox);
  process.stdout.write(`${sandbox.id}\n`);
}

/** Only what was given: the rest is the template's, or the server's default. */
function createRequest(options: CreateOptions): CreateRequest {
  const network = policyChanges(options);
  return {
    ...(options.template === undefined ? {} : { template: options.template }),
    ...(options.vcpus === undefined ? {} : { vcpus: options.vcpus }),
    ...(options.memory === undefined ? {} : { memory_mb: options.memory }),
    ...(options.timeout === undefined ? {} : { timeout_seconds: options.timeout }),
    ...(options.onTimeout === undefined ? {} : { on_timeout: options.onTimeout }),
    ...(options.onMemoryLoss === undefined ? {} : { on_memory_loss: options.onMemoryLoss }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.metadata === undefined ? {} : { metadata: options.metadata }),
    ...(network === undefined ? {} : { network }),
    cold: options.cold,
  };
}

export type Verb = 'pause' | 'resume' | 'destroy';

/** Started, not ended: the answer says which operation is under way. */
export type Change = (client: RestClient, id: string) => Promise<Sandbox>;

/** Each in turn; one that fails does not keep the others from being tried. */
export async function changeSandboxes(
  config: CliConfig,
  verb: string,
  start: Change,
  ids: string[],
  options: WaitOptions,
): Promise<void> {
  const client = new RestClient(findApi(config));
  const changed: Sandbox[] = [];
  const failures: CliError[] = [];
  for (const abbreviated of ids) {
    try {
      const id = await fullSandboxId(client, abbreviated);
      changed.push(await settle(client, await start(client, id), verb, options));
    } catch (error) {
      if (!(error instanceof CliError) || ids.length === 1) throw error;
      failures.push(error);
    }
  }
  if (options.json) printJson(changed.length === 1 && ids.length === 1 ? changed[0] : changed);
  const [first] = failures;
  if (first === undefined) return;
  throw new CliError(failures.map(({ message }) => message).join('\n'), {
    exitCode: first.exitCode,
    code: first.code,
    suggestion: first.suggestion,
  });
}

/** Follows the open operation to its end, on standard error, so that standard output stays for results. */
export async function settle(
  client: RestClient,
  sandbox: Sandbox,
  verb: string,
  options: WaitOptions,
): Promise<Sandbox> {
  const { operation } = sandbox;
  if (!options.wait || operation === null) return sandbox;
  const report = new StepReport(false, process.stderr);
  await report.step(
    `${verb} ${sandbox.id}`,
    (note) => waitForOperation(client, operation.id, options.json ? () => undefined : note),
    () => '',
  );
  return client.sandbox(sandbox.id);
}
