import { setTimeout as delay } from 'node:timers/promises';
import pc from 'picocolors';
import type { CliConfig } from '../config.js';
import { age, remaining } from '../durations.js';
import { CliError } from '../cli-error.js';
import { collect, findApi, RestClient } from '../rest-client.js';
import type { Sandbox, SandboxEvent } from '../rest-types.js';
import { fullSandboxId } from '../sandbox-id.js';
import { printJson, printTable } from '../tables.js';
import { SANDBOX_STATES } from '../../workflows/contract/states.js';

export interface ListOptions {
  state?: string;
  template?: string;
  metadata?: Record<string, string>;
  all: boolean;
  limit: number;
  json: boolean;
}

export async function listSandboxes(config: CliConfig, options: ListOptions): Promise<void> {
  const client = new RestClient(findApi(config));
  const filters: Record<string, string | undefined> = {
    state: options.state ?? (options.all ? SANDBOX_STATES.join(',') : undefined),
    template: options.template,
    ...Object.fromEntries(Object.entries(options.metadata ?? {}).map(([key, value]) => [`metadata[${key}]`, value])),
  };
  const sandboxes = await collect(options.limit, (query) => client.sandboxes({ ...filters, ...query }));
  if (options.json) return printJson(sandboxes);
  printTable(
    ['id', 'state', 'template', 'cpus', 'memory', 'created', 'expires', 'operation'],
    sandboxes.map((one) => [
      one.id,
      coloured(one),
      one.template,
      String(one.vcpus),
      `${one.memory_mb} MiB`,
      `${age(one.created_at)} ago`,
      one.expires_at === null ? 'never' : `in ${remaining(one.expires_at)}`,
      one.operation?.kind ?? '',
    ]),
  );
}

export async function showSandbox(config: CliConfig, id: string, json: boolean): Promise<void> {
  const client = new RestClient(findApi(config));
  const sandbox = await client.sandbox(await fullSandboxId(client, id));
  if (json) return printJson(sandbox);
  const metadata = Object.entries(sandbox.metadata).map(([key, value]) => `${key}=${value}`);
  const { failure, operation } = sandbox;
  printTable(
    [],
    [
      ['id', sandbox.id],
      ['state', coloured(sandbox)],
      ...(operation === null ? [] : [['operation', `${operation.kind} (${operation.id})`]]),
      ...(failure === null ? [] : [['failure', `${failure.step}: ${failure.message}`]]),
      ...adviceRows(sandbox),
      ['template', sandbox.template],
      ['size', `${sandbox.vcpus} vCPU, ${sandbox.memory_mb} MiB`],
      [
        'timeout',
        sandbox.timeout_seconds === 0 ? 'never' : `${sandbox.on_timeout} after ${sandbox.timeout_seconds} s idle`,
      ],
      ['on memory loss', sandbox.on_memory_loss === 'reboot' ? 'boots from its disk' : 'waits in `error`'],
      ['expires', sandbox.expires_at ?? 'never'],
      ['egress', sandbox.egress ? 'on' : 'off'],
      ['host', sandbox.host_id ?? ''],
      ['snapshots', String(sandbox.generation)],
      ['created', sandbox.created_at],
      ['started', sandbox.started_at ?? ''],
      ['paused', sandbox.paused_at ?? ''],
      ['metadata', metadata.join(' ')],
    ],
  );
}

/** What was lost, and what can be done: where nothing can or need be, what its last failure suggests. */
function adviceRows({ failure, memory_lost: lost, next_steps: next }: Sandbox): string[][] {
  const advice = next ?? failure?.suggestion;
  return [
    ...(lost === null ? [] : [['memory lost', `${lost.at}: ${lost.reason} (operation ${lost.operation_id})`]]),
    ...(advice === undefined ? [] : [['what to do', advice]]),
  ];
}

export interface LogOptions {
  console: boolean;
  follow: boolean;
  json: boolean;
}

const POLL_MS = 1_000;
const CONSOLE_BYTES = 65_536;

export async function showLogs(config: CliConfig, id: string, options: LogOptions): Promise<void> {
  const client = new RestClient(findApi(config));
  const full = await fullSandboxId(client, id);
  if (options.console) return showConsole(client, full, options.follow);
  const seen = new Set<string>();
  for (;;) {
    for (const event of await collect(Number.MAX_SAFE_INTEGER, ({ cursor }) => client.events(full, cursor))) {
      if (seen.has(String(event.id))) continue;
      seen.add(String(event.id));
      process.stdout.write(`${options.json ? JSON.stringify(event) : describeEvent(event)}\n`);
    }
    if (!options.follow || (await isStopped(client, full))) return;
    await delay(POLL_MS);
  }
}

/** The server gives the end of the console; what was shown before is found in it and left out. */
async function showConsole(client: RestClient, id: string, follow: boolean): Promise<void> {
  let before = '';
  for (;;) {
    const text = await client.console(id, CONSOLE_BYTES).catch((error: unknown) => {
      if (before !== '' && error instanceof CliError && error.code === 'not_found') return undefined;
      throw error;
    });
    if (text === undefined) return;
    process.stdout.write(addition(before, text));
    if (!follow) return;
    before = text;
    await delay(POLL_MS);
  }
}

/** What `text` has that comes after the end of `before`. */
export function addition(before: string, text: string): string {
  if (text.startsWith(before)) return text.slice(before.length);
  const end = before.slice(-1024);
  const at = text.lastIndexOf(end);
  return at === -1 ? text : text.slice(at + end.length);
}

async function isStopped(client: RestClient, id: string): Promise<boolean> {
  return (await client.sandbox(id)).state === 'stopped';
}

function describeEvent({ at, type, operation_id, data }: SandboxEvent): string {
  const facts = Object.entries(data)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return [pc.dim(at), type.padEnd(20), ...facts, operation_id === null ? '' : pc.dim(`op=${operation_id}`)]
    .join('  ')
    .trimEnd();
}

function coloured({ state, failure }: Sandbox): string {
  if (state === 'running') return pc.green(state);
  if (state === 'error' || state === 'missing') return pc.red(state);
  return failure === null ? state : pc.yellow(state);
}

export async function extendSandbox(
  config: CliConfig,
  id: string,
  timeoutSeconds: number,
  options: { onTimeout?: string; json: boolean },
): Promise<void> {
  const client = new RestClient(findApi(config));
  const sandbox = await client.setTimeout(await fullSandboxId(client, id), {
    timeout_seconds: timeoutSeconds,
    ...(options.onTimeout === undefined ? {} : { on_timeout: options.onTimeout }),
  });
  if (options.json) return printJson(sandbox);
  const when = sandbox.expires_at === null ? 'never' : `${sandbox.on_timeout} at ${sandbox.expires_at}`;
  process.stdout.write(`${sandbox.id}: ${when}\n`);
}
