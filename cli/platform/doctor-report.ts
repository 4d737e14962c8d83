import {
  chooseDrivers,
  type DriverChoice,
  type Finding,
  type MachineFindings,
} from '../../host-worker/driver-choice.js';
import { probeCloudHypervisor } from '../../host-worker/drivers/cloud-hypervisor/cloud-hypervisor-probe.js';
import { probeDmSnapshot } from '../../host-worker/drivers/dm-snapshot/dm-snapshot-probe.js';
import { ChildProcessExec } from '../../host-worker/exec.js';
import type { CliConfig } from '../config.js';
import { cgroupFacts } from './cgroup-facts.js';
import { forwardingFact } from './forwarding-fact.js';
import { kernelFacts } from './kernel-facts.js';
import { thisKernel } from './kernel-view.js';
import { kvmFinding } from './kvm-finding.js';
import * as machine from './machine-facts.js';
import { fact, type Fact } from './machine-facts.js';
import * as prepared from './prepared-facts.js';
import { timeFacts } from './time-facts.js';

export interface DoctorReport {
  /** The main job can run here. */
  ok: boolean;
  facts: Fact[];
  drivers: DriverChoice[];
}

export async function examineMachine(config: CliConfig): Promise<DoctorReport> {
  const rights = await machine.rights();
  const vmms = await vmmFacts(config);
  const disks = await diskFacts(rights.ok);
  const network = rights.ok ? await machine.networkFacts() : [withoutRoot('namespaces', true)];
  const images = prepared.imagesFact(config);
  const drivers = chooseDrivers(
    {
      cloudHypervisor: vmms.cloudHypervisor,
      qemu: finding(vmms.qemu),
      kvm: finding(vmms.kvm),
      dmSnapshot: finding(disks.dmSnapshot),
      qemuImg: finding(disks.qemuImg),
      netns: together(rights, ...network),
      images: finding(images),
    },
    config.wishes,
  );
  const facts: Fact[] = [
    rights,
    ...requiredWhere(drivers, 'hypervisor', vmms.facts),
    ...requiredWhere(drivers, 'disk', [disks.dmSnapshot, disks.qemuImg]),
    ...network,
    await machine.device('tap', '/dev/net/tun', true, 'opens', 'modprobe tun'),
    await forwardingFact(),
    ...(await toolFacts()),
    ...(await kernelFacts(thisKernel)),
    ...(await cgroupFacts(thisKernel, config.vmCgroup)),
    await machine.reflink(config.home),
    prepared.userFact(config.vmUser),
    await prepared.temporalFact(config),
    await prepared.postgresFact(config),
    images,
    await machine.diskSpace('disk for data', config.home),
    await machine.diskSpace('disk for cache', config.cacheDir),
    await machine.memory(),
    ...(await timeFacts()),
  ];
  const ok = facts.every((one) => one.ok || !one.required) && drivers.every((choice) => choice.driver !== undefined);
  return { ok, facts, drivers };
}

const KVM_REMEDY =
  'optional: guests run about ten times slower without it. Switch virtualization on in the firmware, or choose a machine with (nested) virtualization';
const CLOUD_HYPERVISOR_REMEDY =
  'optional, for production: put a release of https://github.com/cloud-hypervisor/cloud-hypervisor on PATH, or name it in TORPOR_CLOUD_HYPERVISOR_BIN';

async function vmmFacts(config: CliConfig) {
  const places = { bin: config.cloudHypervisorBin, path: config.path };
  const cloudHypervisor = await probeCloudHypervisor(new ChildProcessExec(), places);
  const found = { ok: cloudHypervisor.usable, detail: cloudHypervisor.why };
  const qemu = await machine.program('qemu', false, [qemuBinary(), '--version'], 'torpor setup (installs qemu-system)');
  const tried = await kvmFinding(config, { cloudHypervisor, qemu: qemu.ok });
  const kvm = fact('kvm', false, { ok: tried.usable, detail: tried.why }, tried.remedy ?? KVM_REMEDY);
  const facts = [fact('cloud-hypervisor', false, found, CLOUD_HYPERVISOR_REMEDY), qemu, kvm];
  return { cloudHypervisor, qemu, kvm, facts };
}

async function diskFacts(root: boolean): Promise<{ dmSnapshot: Fact; qemuImg: Fact }> {
  const argv = ['qemu-img', '--version'] as const;
  const qemuImg = await machine.program('qemu-img', false, [...argv], 'torpor setup (installs qemu-utils)');
  if (!root) return { dmSnapshot: withoutRoot('dm-snapshot', false), qemuImg };
  const found = await probeDmSnapshot(new ChildProcessExec());
  const remedy = found.usable ? '' : `optional, for production: apt-get install dmsetup; ${found.remedy}`;
  return { dmSnapshot: fact('dm-snapshot', false, { ok: found.usable, detail: found.reason }, remedy), qemuImg };
}

/** What drivers call all the time, with their versions. */
async function toolFacts(): Promise<Fact[]> {
  const tools: [name: string, argv: [string, ...string[]], required: boolean, owner: string][] = [
    ['ip', ['ip', '-V'], true, 'iproute2'],
    ['tc', ['tc', '-V'], true, 'iproute2'],
    ['nft', ['nft', '--version'], true, 'nftables'],
    ['setpriv', ['setpriv', '--version'], true, 'util-linux'],
    ['dmsetup', ['dmsetup', '--version'], false, 'dmsetup'],
    ['losetup', ['losetup', '--version'], false, 'mount'],
  ];
  const facts: Fact[] = [];
  for (const [name, argv, required, owner] of tools)
    facts.push(await machine.program(name, required, argv, `apt-get install ${owner}`));
  facts.push(fact('node', true, { ok: true, detail: `${process.version} (${process.execPath})` }, ''));
  return facts;
}

/** A port without a driver cannot do without what its drivers lack; one that has a driver needs none of the others. */
function requiredWhere(drivers: readonly DriverChoice[], port: string, facts: readonly Fact[]): Fact[] {
  const served = drivers.some((choice) => choice.port === port && choice.driver !== undefined);
  return facts.map((one) => (one.ok || served ? one : { ...one, required: true }));
}

function withoutRoot(name: string, required: boolean): Fact {
  return fact(name, required, { ok: false, detail: 'not tried without root' }, 'run torpor with sudo');
}

function qemuBinary(arch = process.arch): string {
  return arch === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64';
}

function finding({ ok, detail }: Fact): Finding {
  return { usable: ok, why: detail };
}

/** A port that needs several things is as good as the first that fails. */
function together(...facts: Fact[]): MachineFindings['netns'] {
  const broken = facts.find((one) => !one.ok);
  if (broken !== undefined) return { usable: false, why: `${broken.name}: ${broken.detail}` };
  return {
    usable: true,
    why: `${facts
      .slice(1)
      .map((one) => one.name)
      .join(', ')} were tried and work`,
  };
}
