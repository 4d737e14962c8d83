import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { DomainError } from '../../workflows/contract/errors.js';
import type { SandboxState } from '../../workflows/contract/states.js';
import type { FakeHost, PortMethod } from '../support/fake-host-ports.js';
import { failureOf, inParallel, leftOf, newId, TIMING, WorkflowRig, type Handle } from '../support/workflow-rig.js';

type Host = FakeHost & { id: string };
type Kind = 'create' | 'pause' | 'resume' | 'recover' | 'build';

/** An operation, where its first failure happens, and the undo that fails too. */
interface Case {
  kind: Kind;
  step: PortMethod;
  undo: PortMethod;
  /** As it is named on the operation. */
  attention: string;
  /** Undos that must have been tried all the same. */
  others: PortMethod[];
}

const SET_UP: Record<'create' | 'resume' | 'recover' | 'build', { attach: PortMethod; detach: PortMethod }> = {
  create: { attach: 'disk.create', detach: 'disk.remove' },
  build: { attach: 'disk.create', detach: 'disk.remove' },
  resume: { attach: 'disk.attach', detach: 'disk.rollback' },
  recover: { attach: 'disk.attach', detach: 'disk.detach' },
};

const CASES: Case[] = [
  ...(['create', 'resume', 'recover', 'build'] as const).flatMap((kind): Case[] => {
    const { attach, detach } = SET_UP[kind];
    const network: PortMethod = 'network.remove';
    return [
      { kind, step: 'network.ensure', undo: network, attention: 'network', others: [detach] },
      { kind, step: 'network.ensure', undo: detach, attention: 'disk', others: [network] },
      { kind, step: attach, undo: detach, attention: 'disk', others: [network] },
      { kind, step: 'hypervisor.start', undo: 'hypervisor.kill', attention: 'vm', others: [detach, network] },
      { kind, step: 'guest.init', undo: detach, attention: 'disk', others: ['hypervisor.kill', network] },
      { kind, step: 'guest.init', undo: network, attention: 'network', others: ['hypervisor.kill', detach] },
    ];
  }),
  { kind: 'pause', step: 'guest.quiesce', undo: 'guest.unquiesce', attention: 'quiesce', others: [] },
  ...(['hypervisor.freeze', 'hypervisor.save', 'snapshots.save'] as const).flatMap((step): Case[] => [
    { kind: 'pause', step, undo: 'snapshots.delete', attention: 'snapshot', others: ['guest.unquiesce'] },
    { kind: 'pause', step, undo: 'guest.unquiesce', attention: 'quiesce', others: ['snapshots.delete'] },
    { kind: 'pause', step, undo: 'hypervisor.unfreeze', attention: 'freeze', others: ['snapshots.delete'] },
  ]),
  { kind: 'build', step: 'guest.run', undo: 'hypervisor.kill', attention: 'vm', others: ['network.remove'] },
  { kind: 'build', step: 'guest.quiesce', undo: 'disk.remove', attention: 'disk', others: ['network.remove'] },
  { kind: 'build', step: 'builds.save', undo: 'builds.delete', attention: 'template', others: ['hypervisor.kill'] },
];

const UNDONE: Record<Exclude<Kind, 'build'>, SandboxState> = {
  create: 'error',
  pause: 'running',
  resume: 'paused',
  recover: 'error',
};
/** Dozens of cases in one test. */
const MATRIX_MS = 180_000;
const ORIGINAL = new DomainError('unsupported', 'the original error');

let rig: WorkflowRig;

beforeAll(async () => {
  rig = await WorkflowRig.open();
});
afterAll(() => rig.close());

/** A sandbox in the state that the operation begins in, on a machine of its own. */
async function prepare(kind: Kind): Promise<{ host: Host; id: string; begin: () => Promise<Handle> }> {
  const host = await rig.addHost();
  switch (kind) {
    case 'create': {
      const id = newId();
      rig.control.placed.set(id, host.id);
      return { host, id, begin: () => rig.create(id) };
    }
    case 'build': {
      const id = newId();
      rig.control.placed.set(id, host.id);
      return { host, id, begin: () => rig.build(id, ['true']) };
    }
    case 'pause': {
      const id = await rig.runningSandbox(host);
      return { host, id, begin: () => rig.begin('pause', id) };
    }
    case 'resume': {
      const id = await rig.pausedSandbox(host);
      return { host, id, begin: () => rig.begin('resume', id) };
    }
    case 'recover': {
      const id = await rig.runningSandbox(host);
      rig.control.row(id).state = 'missing';
      host.crashVm(id);
      return { host, id, begin: () => rig.recover(id) };
    }
  }
}

/** Builds have no row, and a snapshot that fails lets the VM run again within its own step, before any undo. */
function isUndoOnly({ kind, step, undo }: Case): boolean {
  return kind !== 'build' && !(step === 'hypervisor.save' && undo === 'hypervisor.unfreeze');
}

const failureIn = (kind: Kind, id: string) =>
  kind === 'build' ? rig.control.builds.get(id)?.failure : rig.control.row(id).failure;

/** Faults are planted once the step is reached, so that what leads there is not hit by them. */
async function failsAt({ kind, step }: Pick<Case, 'kind' | 'step'>, then: (host: Host) => void) {
  const { host, id, begin } = await prepare(kind);
  const block = host.faults.block(step);
  const handle = await begin();
  await block.reached;
  const from = host.calls.length;
  host.faults.fail(step, ORIGINAL, { times: TIMING.stepAttempts });
  then(host);
  block.release();
  return { host, id, handle, since: () => new Set(host.calls.slice(from).map(({ method }) => method)) };
}

describe('an undo that fails too', () => {
  it(
    'is recorded, the other undos run, and the original error stays the error',
    () =>
      inParallel(CASES, async (one) => {
        const { kind, undo, attention, others } = one;
        const { id, handle, since } = await failsAt(one, (host) =>
          host.faults.fail(undo, new DomainError('disk_full', 'the undo error'), { times: Infinity }),
        );
        expect(await failureOf(handle)).toMatchObject({ message: expect.stringContaining('the original error') });
        const failure = failureIn(kind, id);
        expect(failure).toMatchObject({ code: 'unsupported' });
        expect(failure?.needsAttention).toContainEqual(
          expect.stringMatching(new RegExp(`^${attention}: .*undo error`)),
        );
        expect([...since()]).toEqual(expect.arrayContaining(others));
        if (kind === 'build') expect(rig.control.builds.get(id)?.state).toBe('failed');
        else expect(rig.control.row(id).state).toBe('error');
      }),
    MATRIX_MS,
  );
});

describe('a cancellation that arrives during the undo', () => {
  const DURING = CASES.filter(isUndoOnly);

  it(
    'does not stop it',
    () =>
      inParallel(DURING, async (one) => {
        const { kind, undo } = one;
        let undoing = { reached: Promise.resolve(), release: () => {} };
        const { host, id, handle } = await failsAt(one, (on) => (undoing = on.faults.block(undo)));
        await undoing.reached;
        await handle.cancel();
        undoing.release();
        expect(await failureOf(handle)).toMatchObject({ message: expect.stringContaining('the original error') });
        if (kind === 'build') return;
        expect(rig.control.row(id)).toMatchObject({ state: UNDONE[kind], failure: { code: 'unsupported' } });
        expect(rig.control.row(id).failure?.needsAttention).toBeUndefined();
        expect(host.violations).toEqual([]);
        await (await rig.destroy(id)).result();
        expect(leftOf(host, id)).toEqual([]);
      }),
    MATRIX_MS,
  );
});

describe('a destroy that arrives during the undo', () => {
  it(
    'waits for it and takes the sandbox over',
    () =>
      inParallel(CASES.filter(isUndoOnly), async (one) => {
        let undoing = { reached: Promise.resolve(), release: () => {} };
        const { host, id } = await failsAt(one, (on) => (undoing = on.faults.block(one.undo)));
        await undoing.reached;
        const destroy = await rig.destroy(id);
        undoing.release();
        await destroy.result();
        expect(rig.control.row(id).state).toBe('stopped');
        expect(leftOf(host, id)).toEqual([]);
        expect(host.violations).toEqual([]);
      }),
    MATRIX_MS,
  );
});
