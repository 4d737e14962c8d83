import * as own from '../../cli/platform/own-processes.js';
import type { ServiceSpec } from '../../cli/platform/service.js';
import { Lab } from '../lab/lab.js';
import type { Addresses } from './addresses.js';
import type { LabHostMachine } from './lab-host-machine.js';

/** Drivers of a host worker, as TORPOR_HYPERVISOR and TORPOR_DISK name them. */
export interface LabDrivers {
  hypervisor: string;
  disk: string;
}

/** What a host worker in a lab must know of the platform outside. */
export interface PlatformOutside {
  addresses: Addresses;
  registrationToken: string;
  /** On this machine's loopback. */
  directorPort: number;
}

/** Guests share the lab's processors; its memory is what they have. */
const VCPUS = '16';
/** What the lab needs for itself. */
const OWN_MEMORY_MB = 1_280;
/** Where `torpor setup`'s files are in a lab. */
const IMAGES = '/var/cache/torpor/images.json';
const TREE = '/torpor/tree';

/** A host worker that runs in a lab, of a platform whose other processes run here. */
export function labHostWorker(
  { dataPlane, places, memoryMb }: LabHostMachine,
  { hypervisor, disk }: LabDrivers,
  { addresses, registrationToken, directorPort }: PlatformOutside,
): ServiceSpec {
  const seenInside = (address: string) => address.replace('127.0.0.1', Lab.OUTSIDE);
  const settings: own.HostSettings = {
    registrationToken,
    temporalAddress: seenInside(addresses.temporal),
    temporalNamespace: 'default',
    apiUrl: seenInside(addresses.api),
    dataDirectory: places.hostDirectory,
    runDirectory: places.runDirectory,
    imagesFile: IMAGES,
  };
  const env = {
    TORPOR_CAPACITY_VCPUS: VCPUS,
    TORPOR_CAPACITY_MEMORY_MB: String(memoryMb - OWN_MEMORY_MB),
    TORPOR_HYPERVISOR: hypervisor,
    TORPOR_DISK: disk,
    TORPOR_DATA_PLANE_LISTEN: dataPlane.listen,
    TORPOR_DATA_PLANE_URL: dataPlane.url,
  };
  const director = `${Lab.OUTSIDE}:${directorPort}`;
  const argv = ['node', 'test/chaos/host-worker-process.js', '--director', director] as const;
  return { ...own.hostWorker(settings, env), argv, cwd: TREE };
}
