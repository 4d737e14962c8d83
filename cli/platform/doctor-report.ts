import {
  chooseDrivers,
  type DriverChoice,
  type Finding,
  type MachineFindings,
} from '../../host-worker/driver-choice.js';
import type { CliConfig } from '../config.js';
import { readImages } from './guest-image.js';
import { kvmFinding } from './kvm-finding.js';
import * as machine from './machine-facts.js';
import { fact, type Fact } from './machine-facts.js';
import { findPostgresBinaries } from './postgres-binaries.js';
import { findUser } from './system-users.js';
import { findTemporal, temporalVersion } from './temporal-binary.js';

export interface DoctorReport {
  /** The main job can run here. */
  ok: boolean;
  facts: Fact[];
  drivers: DriverChoice[];
}

export async function examineMachine(config: CliConfig): Promise<DoctorReport> {
  const rights = await machine.rights();
  const network = rights.ok
    ? await machine.networkFacts()
    : [fact('namespaces', true, { ok: false, detail: 'not tried without root' }, 'run torpor with sudo')];
  const qemu = await machine.program('qemu', true, [qemuBinary(), '--version'], 'torpor setup (installs qemu-system)');
  const qemuImg = await machine.program(
    'qemu-img',
    true,
    ['qemu-img', '--version'],
    'torpor setup (installs qemu-utils)',
  );
  const images = imagesFact(config);
  const kvm = await kvmFinding(config, qemu.ok);
  const facts: Fact[] = [
    rights,
    qemu,
    fact('kvm', false, { ok: kvm.usable, detail: kvm.why }, kvm.remedy ?? KVM_REMEDY),
    qemuImg,
    ...network,
    await machine.device('tap', '/dev/net/tun', true, 'opens', 'modprobe tun'),
    await machine.cgroup(),
    await machine.device(
      'device-mapper',
      '/dev/mapper/control',
      false,
      'for the dm-snapshot disk driver',
      'optional: modprobe dm_snapshot',
    ),
    await machine.device(
      'loop',
      '/dev/loop-control',
      false,
      'for the dm-snapshot disk driver',
      'optional: modprobe loop',
    ),
    await machine.reflink(config.home),
    userFact(config.vmUser),
    await temporalFact(config),
    await postgresFact(config),
    images,
    await machine.diskSpace('disk for data', config.home),
    await machine.diskSpace('disk for cache', config.cacheDir),
    await machine.memory(),
    await machine.clock(),
  ];
  const drivers = chooseDrivers(
    {
      qemu: finding(qemu),
      kvm,
      qemuImg: finding(qemuImg),
      netns: together(rights, ...network),
      images: finding(images),
    },
    { hypervisor: config.hypervisor, accel: config.accel },
  );
  const ok = facts.every((one) => one.ok || !one.required) && drivers.every((choice) => choice.driver !== undefined);
  return { ok, facts, drivers };
}

const KVM_REMEDY =
  'optional: guests run about ten times slower without it. Switch virtualization on in the firmware, or choose a machine with (nested) virtualization';

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

function imagesFact(config: CliConfig): Fact {
  const index = readImages(config.cacheDir);
  const names = Object.keys(index?.images ?? {});
  const ok = index !== undefined && names.length > 0;
  const detail = ok
    ? `kernel ${index.kernel.version}, agent ${index.agent.version}, ${names.join(', ')}`
    : `nothing is built in ${config.cacheDir}`;
  return fact('guest image', true, { ok, detail }, 'torpor setup');
}

function userFact(name: string): Fact {
  const user = findUser(name);
  const detail = user === undefined ? `there is no user ${name}` : `${name} (uid ${user.uid})`;
  return fact('vm user', true, { ok: user !== undefined, detail }, 'torpor setup (as root)');
}

async function temporalFact(config: CliConfig): Promise<Fact> {
  if (config.temporalAddress !== undefined) {
    return fact(
      'temporal',
      true,
      { ok: true, detail: `the server at ${config.temporalAddress} (TEMPORAL_ADDRESS)` },
      '',
    );
  }
  try {
    const found = await findTemporal(config);
    if (found === undefined) return fact('temporal', true, { ok: false, detail: 'not found' }, 'torpor setup');
    return fact('temporal', true, { ok: true, detail: `${await temporalVersion(found.path)}, from ${found.from}` }, '');
  } catch (error) {
    return fact(
      'temporal',
      true,
      { ok: false, detail: (error as Error).message },
      'set TORPOR_TEMPORAL_BIN to a program that works, or unset it',
    );
  }
}

async function postgresFact(config: CliConfig): Promise<Fact> {
  if (config.databaseUrl !== undefined) {
    return fact('postgres', true, { ok: true, detail: 'the server of DATABASE_URL' }, '');
  }
  try {
    const found = await findPostgresBinaries(config.cacheDir);
    if (found === undefined) return fact('postgres', true, { ok: false, detail: 'not prepared yet' }, 'torpor setup');
    return await machine.program('postgres', true, [found.postgres, '--version'], 'torpor setup');
  } catch (error) {
    return fact('postgres', true, { ok: false, detail: (error as Error).message }, 'npm ci; torpor setup');
  }
}
