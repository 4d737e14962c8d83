import { describe, expect, it } from '@jest/globals';
import type { VmSpec } from '../../../activities/host/ports.js';
import { adoptedConfig, newVm, parseSavedConfig } from './vm-config.js';

const boot = { kernel: '/images/vmlinux', initramfs: '/images/initramfs', cmdline: 'console=ttyS0 quiet' };
const spec = (id: string): VmSpec => ({
  vcpus: 2,
  memoryMb: 256,
  disk: { path: `/dev/mapper/sbx-${id}`, format: 'raw' },
  network: { namespace: `sbx-${id}`, tap: 'tap0', mac: '02:fc:00:00:00:05', hostAddress: '10.0.0.9' },
});
const surroundings = (id: string) => ({ boot, workspace: `/data/sandboxes/${id}/vm`, landlock: true });

describe('the configuration of a VM', () => {
  it('shares memory, so that what is saved of it is sparse, and offers no virtualization of its own', () => {
    expect(newVm(spec('one'), surroundings('one'))).toMatchObject({
      cpus: { boot_vcpus: 2, max_vcpus: 2, nested: false },
      memory: { size: 268_435_456, shared: true },
      disks: [{ path: '/dev/mapper/sbx-one', image_type: 'Raw', backing_files: false }],
      net: [{ tap: 'tap0', mac: '02:fc:00:00:00:05' }],
      landlock_enable: true,
      landlock_rules: [{ path: '/data/sandboxes/one/vm', access: 'rw' }],
    });
  });

  it('lets a qcow2 disk name the one below it', () => {
    const disk = { path: '/data/disk.qcow2', format: 'qcow2' } as const;
    const { disks, landlock_rules: rules } = newVm(
      { ...spec('one'), disk },
      { ...surroundings('one'), landlock: false },
    );
    expect(disks).toEqual([{ path: '/data/disk.qcow2', image_type: 'Qcow2', backing_files: true }]);
    expect(rules).toEqual([]);
  });
});

describe('the configuration that was saved', () => {
  /** As the VMM writes it: with more than was asked for. */
  const saved = JSON.stringify({
    ...newVm(spec('first'), surroundings('first')),
    disks: [{ id: '_disk0', path: '/dev/mapper/sbx-first', image_type: 'Raw', num_queues: 1, serial: null }],
    net: [{ id: '_net1', tap: 'tap9', mac: '02:00:00:00:00:01', host_mac: '02:00:00:00:00:02', num_queues: 2 }],
    serial: { mode: 'File', file: '/data/sandboxes/first/console.log' },
    pvpanic: false,
  });

  it('becomes that of another VM, and keeps what it says of devices beyond that', () => {
    const parsed = parseSavedConfig(saved);
    if (parsed === undefined) throw new Error('it was not understood');
    const adopted = adoptedConfig(parsed, spec('second'), surroundings('second'));
    expect(JSON.stringify(adopted)).not.toContain('first');
    expect(adopted).toMatchObject({
      disks: [{ id: '_disk0', path: '/dev/mapper/sbx-second', num_queues: 1, serial: null }],
      net: [{ id: '_net1', tap: 'tap0', mac: '02:fc:00:00:00:05', host_mac: null, num_queues: 2 }],
      serial: { mode: 'Tty', file: null },
      memory: { size: 268_435_456 },
      pvpanic: false,
    });
  });

  it.each([
    ['torn', saved.slice(0, 200)],
    ['of a VM with two disks', saved.replace('"disks":[', '"disks":[{},')],
    ['of no VM', '{"version":1}'],
    ['no object', 'null'],
  ])('is refused when it is %s', (_, text) => {
    expect(parseSavedConfig(text)).toBeUndefined();
  });
});
