import { describe, expect, it } from '@jest/globals';
import { parseInfo } from './qemu-img.js';

describe('parseInfo', () => {
  it('reads an overlay with a snapshot', () => {
    const json = JSON.stringify({
      'virtual-size': 67_108_864,
      filename: '/d/disk.qcow2',
      format: 'qcow2',
      'actual-size': 200_704,
      'format-specific': { type: 'qcow2', data: { compat: '1.1', corrupt: false } },
      'full-backing-filename': '/images/base.raw',
      'backing-filename': 'base.raw',
      snapshots: [{ id: '1', name: 'resume-point', 'vm-state-size': 0 }],
    });
    expect(parseInfo(json)).toEqual({
      format: 'qcow2',
      virtualBytes: 67_108_864,
      backing: '/images/base.raw',
      snapshots: ['resume-point'],
      corrupt: false,
    });
  });

  it('reads a raw image and a damaged one', () => {
    expect(parseInfo('{"format":"raw","virtual-size":512}')).toEqual({
      format: 'raw',
      virtualBytes: 512,
      backing: undefined,
      snapshots: [],
      corrupt: false,
    });
    expect(parseInfo('{"format":"qcow2","virtual-size":1,"format-specific":{"data":{"corrupt":true}}}').corrupt).toBe(
      true,
    );
  });
});
