import { describe, expect, it } from '@jest/globals';
import { cpuSignature } from './cpu-signature.js';

const cpuinfo = (flags: string, model = 17): string =>
  `processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: ${model}\nmodel name\t: AMD EPYC\nflags\t\t: ${flags}\n\nprocessor\t: 1\nflags\t\t: none\n`;

describe('the signature of a processor', () => {
  it('names vendor, family and model', () => {
    expect(cpuSignature(cpuinfo('fpu avx2'))).toMatch(/^kvm:AuthenticAMD-25-17-[0-9a-f]{12}$/);
  });

  it('does not change with the order of flags, nor with those that only the kernel has use for', () => {
    const one = cpuSignature(cpuinfo('fpu avx2 sse4_2'));
    expect(cpuSignature(cpuinfo('sse4_2 fpu avx2 ibpb_exit_to_user retbleed'))).toBe(one);
  });

  it('changes with what programs in a guest may use', () => {
    const signatures = [cpuinfo('fpu avx2'), cpuinfo('fpu avx2 avx512f'), cpuinfo('fpu avx2', 18)].map(cpuSignature);
    expect(new Set(signatures).size).toBe(3);
  });
});
