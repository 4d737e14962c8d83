import { describe, expect, it } from '@jest/globals';
import { kvmMembership } from './system-users.js';

const groups = 'root:x:0:\nkvm:x:108:alice,torpor-vm2\nlibvirt:x:109:kvm,torpor-vm\n';

describe('membership of the group kvm', () => {
  it('is missing where the group has the device and not the user', () => {
    expect(kvmMembership('torpor-vm', groups, 108)).toBe('missing');
    expect(kvmMembership('alice', groups, 108)).toBe('there');
  });

  it('is of no use where the device, or the group, is not there or another one', () => {
    expect(kvmMembership('torpor-vm', groups, 0)).toBe('no use');
    expect(kvmMembership('torpor-vm', groups, undefined)).toBe('no use');
    expect(kvmMembership('torpor-vm', 'root:x:0:\n', 0)).toBe('no use');
  });
});
