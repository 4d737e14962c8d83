import { open, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Hypervisor } from '../../activities/host/ports.js';
import { storageFailure } from '../../host-worker/durable-file.js';
import { hasErrno, isAbsent } from '../../host-worker/errno.js';
import { DomainError, isErrorCode } from '../../workflows/contract/errors.js';

type Method = Exclude<keyof Hypervisor, 'identity'>;
const METHODS = ['start', 'status', 'freeze', 'unfreeze', 'save', 'awaitMemory', 'kill', 'consoleLog', 'list'] as const;

/** What goes wrong with a call, in this order. */
export interface Fault {
  /** Only for these sandboxes; for all when absent. */
  ids?: string[];
  /** `after`: the work was done, and its answer is lost. Before the work when absent. */
  when?: 'before' | 'after';
  /** Only once: whichever call can make this file. In every call when absent. */
  once?: string;
  delayMs?: number;
  /** This very process is killed, as if by SIGKILL from outside at this instant. */
  killWorker?: boolean;
  /** An errno such as `ENOSPC`, or an error code of the platform. */
  error?: string;
}

/** By method of the port, or for all of them under `*`. */
export type FaultPlan = Partial<Record<Method | '*', Fault>>;

const KNOWN: ReadonlySet<string> = new Set(['ids', 'when', 'once', 'delayMs', 'killWorker', 'error']);

/** A hypervisor that fails as the file says at the time of each call, so that another process can say it. No file, no fault. */
export function withFaults(hypervisor: Hypervisor, file: string): Hypervisor {
  const faulty = <T>(
    method: Method,
    id: string | undefined,
    signal: AbortSignal | undefined,
    work: () => Promise<T>,
  ): Promise<T> => suffering(file, { method, id, signal }, work);
  return {
    identity: hypervisor.identity,
    start: (id, spec, signal) => faulty('start', id, signal, () => hypervisor.start(id, spec, signal)),
    status: (id) => faulty('status', id, undefined, () => hypervisor.status(id)),
    freeze: (id, signal) => faulty('freeze', id, signal, () => hypervisor.freeze(id, signal)),
    unfreeze: (id, signal) => faulty('unfreeze', id, signal, () => hypervisor.unfreeze(id, signal)),
    save: (id, path, signal) => faulty('save', id, signal, () => hypervisor.save(id, path, signal)),
    awaitMemory: (id, signal) => faulty('awaitMemory', id, signal, () => hypervisor.awaitMemory(id, signal)),
    kill: (id, signal) => faulty('kill', id, signal, () => hypervisor.kill(id, signal)),
    consoleLog: (id, maxBytes) => faulty('consoleLog', id, undefined, () => hypervisor.consoleLog(id, maxBytes)),
    list: () => faulty('list', undefined, undefined, () => hypervisor.list()),
  };
}

interface Call {
  method: Method;
  id: string | undefined;
  signal: AbortSignal | undefined;
}

async function suffering<T>(file: string, call: Call, work: () => Promise<T>): Promise<T> {
  const plan = await readPlan(file);
  const fault = plan[call.method] ?? plan['*'];
  const meant = fault?.ids === undefined || (call.id !== undefined && fault.ids.includes(call.id));
  if (fault === undefined || !meant || !(await isDue(fault))) return work();
  if (fault.when !== 'after') {
    await strike(fault, call);
    return work();
  }
  const result = await work();
  await strike(fault, call);
  return result;
}

async function strike({ delayMs, killWorker, error }: Fault, { method, id, signal }: Call): Promise<void> {
  if (delayMs !== undefined) await delay(delayMs, undefined, signal ? { signal } : {});
  if (killWorker === true) process.kill(process.pid, 'SIGKILL');
  if (error === undefined) return;
  const doing = `${method} of ${id ?? 'all'}`;
  if (isErrorCode(error)) throw new DomainError(error, `${doing} was made to fail`);
  throw storageFailure(Object.assign(new Error(`${error}: ${doing} was made to fail`), { code: error }), doing);
}

async function isDue({ once }: Fault): Promise<boolean> {
  if (once === undefined) return true;
  try {
    await (await open(once, 'wx')).close();
    return true;
  } catch (err) {
    if (hasErrno(err, 'EEXIST')) return false;
    throw err;
  }
}

/** Whoever writes the file renames it into place. A word that is not known is an error: such a fault would never strike. */
async function readPlan(file: string): Promise<FaultPlan> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (err) {
    if (isAbsent(err)) return {};
    throw err;
  }
  const plan = JSON.parse(text) as FaultPlan;
  const unknown = Object.keys(plan).filter((name) => name !== '*' && !METHODS.some((method) => method === name));
  for (const fault of Object.values(plan)) unknown.push(...Object.keys(fault).filter((name) => !KNOWN.has(name)));
  if (unknown.length > 0) throw new Error(`${file}: no such method or fault: ${unknown.join(', ')}`);
  return plan;
}
