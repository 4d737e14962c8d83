import { describe, expect, it } from '@jest/globals';
import { choosePlacement, hasRoom, type PlacementRequest } from './placement.js';
import type { BuildRecord, HostLoad } from './ports.js';

function host(id: string, changes: Partial<HostLoad> = {}): HostLoad {
  return {
    id,
    name: id,
    vcpus: 2,
    memoryMb: 4096,
    reservedVcpus: 0,
    reservedMemoryMb: 0,
    hypervisor: 'qemu',
    hypervisorVersion: '7.2',
    cpu: 'tcg:max',
    images: ['minimal'],
    ...changes,
  };
}

function build(id: string, hostId: string, changes: Partial<BuildRecord> = {}): BuildRecord {
  return {
    id,
    teamId: 'team',
    templateId: 'template',
    hostId,
    epoch: 1,
    runId: id,
    state: 'ready',
    image: 'minimal',
    vcpus: 1,
    memoryMb: 512,
    setup: [],
    artefact: { memoryBytes: 1, diskBytes: 1, hypervisor: 'qemu 7.2', cpu: 'tcg:max' },
    finishedAt: new Date(0),
    ...changes,
  };
}

/** What a build's artefact says of a host that is like this now. */
function asSavedBy(changes: Partial<HostLoad>): { hypervisor: string; cpu: string } {
  const { hypervisor, hypervisorVersion, cpu } = host('any', changes);
  return { hypervisor: `${hypervisor} ${hypervisorVersion}`, cpu };
}

const REQUEST: PlacementRequest = { vcpus: 1, memoryMb: 512, image: 'minimal', cold: false, notHosts: [] };
const fails = (request: PlacementRequest, hosts: HostLoad[], builds: BuildRecord[] = []) => {
  try {
    choosePlacement(request, hosts, builds);
  } catch (error) {
    return error;
  }
  throw new Error('a host was chosen');
};

describe('placement', () => {
  it('takes the least loaded host, and the image where nothing was built', () => {
    const chosen = choosePlacement(REQUEST, [host('a', { reservedMemoryMb: 1024 }), host('b')], []);
    expect(chosen).toEqual({ hostId: 'b', disk: { kind: 'image', image: 'minimal' }, boot: { kind: 'cold' } });
  });

  it('prefers a host that restores from memory to one that is less loaded', () => {
    const chosen = choosePlacement(REQUEST, [host('a', { reservedMemoryMb: 2048 }), host('b')], [build('x', 'a')]);
    expect(chosen).toEqual({
      hostId: 'a',
      disk: { kind: 'build', buildId: 'x' },
      boot: { kind: 'build', buildId: 'x' },
    });
  });

  it('boots cold from the disk of a build of another size, or when asked to', () => {
    const cold = { hostId: 'a', disk: { kind: 'build', buildId: 'x' }, boot: { kind: 'cold' } };
    expect(choosePlacement(REQUEST, [host('a')], [build('x', 'a', { memoryMb: 256 })])).toEqual(cold);
    expect(choosePlacement({ ...REQUEST, cold: true }, [host('a')], [build('x', 'a')])).toEqual(cold);
  });

  it.each([
    ['hypervisor', { hypervisor: 'cloud-hypervisor' }],
    ['version of the hypervisor', { hypervisorVersion: '10.0' }],
    ['processor', { cpu: 'kvm:EPYC' }],
  ])('boots cold from the disk of a build whose memory another %s saved', (_, now) => {
    const cold = { hostId: 'a', disk: { kind: 'build', buildId: 'x' }, boot: { kind: 'cold' } };
    expect(choosePlacement(REQUEST, [host('a', now)], [build('x', 'a')])).toEqual(cold);
    const artefact = { memoryBytes: 1, diskBytes: 1, ...asSavedBy(now) };
    const builds = [build('x', 'a'), build('again', 'a', { artefact })];
    expect(choosePlacement(REQUEST, [host('a', now)], builds).boot).toEqual({ kind: 'build', buildId: 'again' });
  });

  it('takes the newest of several builds', () => {
    const chosen = choosePlacement(REQUEST, [host('a')], [build('new', 'a'), build('old', 'a')]);
    expect(chosen.boot).toEqual({ kind: 'build', buildId: 'new' });
  });

  it('never starts from an older recipe or from the bare image of a template that was set up', () => {
    const builds = [build('new', 'b', { setup: ['b'] }), build('old', 'a', { setup: ['a'] })];
    expect(choosePlacement(REQUEST, [host('a'), host('b', { reservedMemoryMb: 2048 })], builds).hostId).toBe('b');
    expect(fails(REQUEST, [host('a')], builds)).toMatchObject({ code: 'no_hosts_available' });
    const first = [build('running', 'a', { state: 'running', setup: ['a'], finishedAt: null })];
    expect(fails(REQUEST, [host('a')], first)).toMatchObject({ code: 'no_hosts_available' });
  });

  it('promises memory once and virtual CPUs four times', () => {
    expect(hasRoom(host('a', { reservedMemoryMb: 3584 }), REQUEST)).toBe(true);
    expect(hasRoom(host('a', { reservedMemoryMb: 3585 }), REQUEST)).toBe(false);
    expect(hasRoom(host('a', { reservedVcpus: 7 }), REQUEST)).toBe(true);
    expect(hasRoom(host('a', { reservedVcpus: 8 }), REQUEST)).toBe(false);
  });

  it('says why there is no host', () => {
    expect(fails(REQUEST, [])).toMatchObject({ message: 'no host is online' });
    expect(fails({ ...REQUEST, notHosts: ['a'] }, [host('a')])).toMatchObject({ message: 'no other host is online' });
    expect(fails(REQUEST, [host('a', { reservedMemoryMb: 4000 })])).toMatchObject({
      message: expect.stringContaining('most memory left on one: 96 MiB'),
      details: { online: 1, excluded: [], largest_free_memory_mb: 96 },
    });
    expect(fails(REQUEST, [host('a', { images: [] })])).toMatchObject({
      message: expect.stringContaining('its image "minimal"'),
    });
  });
});
