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
    disk: 'qcow2',
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
    const another = choosePlacement(REQUEST, [host('a')], [build('x', 'a', { memoryMb: 256 })]);
    expect(another).toEqual({ ...cold, coldBecause: 'no build on a has this size' });
    expect(choosePlacement({ ...REQUEST, cold: true }, [host('a')], [build('x', 'a')])).toEqual(cold);
  });

  it.each([
    ['hypervisor', { hypervisor: 'cloud-hypervisor' }],
    ['version of the hypervisor', { hypervisorVersion: '10.0' }],
    ['processor', { cpu: 'kvm:EPYC' }],
  ])('boots cold from the disk of a build whose memory another %s saved', (_, now) => {
    const cold = { hostId: 'a', disk: { kind: 'build', buildId: 'x' }, boot: { kind: 'cold' } };
    const chosen = choosePlacement(REQUEST, [host('a', now)], [build('x', 'a')]);
    expect(chosen).toEqual({ ...cold, coldBecause: expect.stringContaining('was saved by qemu 7.2 on tcg:max') });
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
      message: expect.stringContaining('a has no ready build of the template, nor its image "minimal"'),
    });
  });
});

const PRODUCTION: Partial<HostLoad> = {
  hypervisor: 'cloud-hypervisor',
  hypervisorVersion: '53.0',
  cpu: 'kvm:EPYC',
  disk: 'dm-snapshot',
};
const SAVED_THERE = { memoryBytes: 1, diskBytes: 1, diskFormat: 'raw', ...asSavedBy(PRODUCTION) } as const;

describe('placement on hosts of several kinds', () => {
  const [laptop, server] = [host('laptop'), host('server', PRODUCTION)];
  const [onLaptop, onServer] = [build('l', 'laptop'), build('s', 'server', { artefact: SAVED_THERE })];

  it('restores on each kind what that kind has saved', () => {
    expect(choosePlacement(REQUEST, [laptop, server], [onLaptop]).boot).toEqual({ kind: 'build', buildId: 'l' });
    expect(choosePlacement(REQUEST, [laptop, server], [onServer]).boot).toEqual({ kind: 'build', buildId: 's' });
    const full = { ...server, reservedMemoryMb: server.memoryMb };
    expect(choosePlacement(REQUEST, [laptop, full], [onServer, onLaptop]).hostId).toBe('laptop');
  });

  it('boots on the other kind what it cannot restore, when nothing better has room', () => {
    const full = { ...server, reservedMemoryMb: server.memoryMb };
    const chosen = choosePlacement(REQUEST, [laptop, full], [onServer]);
    expect(chosen).toEqual({ hostId: 'laptop', disk: { kind: 'image', image: 'minimal' }, boot: { kind: 'cold' } });
  });

  it('never opens a disk that the driver of its host cannot read', () => {
    const became = host('laptop', PRODUCTION);
    const chosen = choosePlacement(REQUEST, [became], [onLaptop]);
    expect(chosen).toMatchObject({ disk: { kind: 'image', image: 'minimal' }, boot: { kind: 'cold' } });
    expect(chosen.coldBecause).toMatch(/build l with a qcow2 disk, which its disk driver dm-snapshot cannot open/);
    const setUp = { setup: ['apt-get install x'] };
    expect(fails(REQUEST, [became], [build('l', 'laptop', setUp)])).toMatchObject({
      code: 'no_hosts_available',
      message: expect.stringMatching(/laptop has build l .* cannot open: build the template there again/),
    });
  });

  it('takes a newer build of the right format beside one that cannot be opened', () => {
    const became = host('laptop', PRODUCTION);
    const again = build('again', 'laptop', { artefact: SAVED_THERE });
    expect(choosePlacement(REQUEST, [became], [onLaptop, again]).boot).toEqual({ kind: 'build', buildId: 'again' });
  });

  it('reads raw disks with every driver', () => {
    const back = host('server');
    const chosen = choosePlacement(REQUEST, [back], [onServer]);
    expect(chosen).toMatchObject({ disk: { kind: 'build', buildId: 's' }, boot: { kind: 'cold' } });
    expect(chosen.coldBecause).toMatch(/saved by cloud-hypervisor 53.0 on kvm:EPYC, and server runs qemu 7.2/);
  });

  it('opens no qcow2 disk with a driver that it does not know', () => {
    expect(choosePlacement(REQUEST, [host('laptop', { disk: 'other' })], [onLaptop])).toMatchObject({
      disk: { kind: 'image', image: 'minimal' },
    });
  });
});
