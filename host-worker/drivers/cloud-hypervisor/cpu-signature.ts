import { createHash } from 'node:crypto';

/**
 * What programs may have found in their processor and go on using after a restore. Not all flags that the kernel
 * prints: some of those come and go with its own version, and memory saved before an upgrade must load after it.
 */
const GUEST_FLAGS = new Set([
  ...['aes', 'pclmulqdq', 'vaes', 'vpclmulqdq', 'gfni', 'sha_ni', 'rdrand', 'rdseed'],
  ...['sse4_1', 'sse4_2', 'ssse3', 'popcnt', 'movbe', 'f16c', 'fma', 'avx', 'avx2', 'avx_vnni', 'sse4a', 'xop', 'fma4'],
  ...['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl', 'avx512ifma', 'avx512vbmi', 'avx512_vbmi2'],
  ...[
    'avx512_vnni',
    'avx512_bitalg',
    'avx512_vpopcntdq',
    'avx512_bf16',
    'avx512_fp16',
    'amx_tile',
    'amx_int8',
    'amx_bf16',
  ],
  ...['bmi1', 'bmi2', 'abm', 'adx', 'tbm', 'xsave', 'xsaveopt', 'xsavec', 'xsaves', 'xgetbv1', 'fsgsbase', 'pku'],
  ...['pcid', 'invpcid', 'smep', 'smap', 'umip', 'la57', 'erms', 'fsrm', 'clflushopt', 'clwb', 'movdiri', 'movdir64b'],
  ...['rdtscp', 'rdpid', 'serialize', 'tsc_deadline_timer', 'x2apic', 'constant_tsc', 'nonstop_tsc', 'cx16', 'lahf_lm'],
]);

/**
 * Names the processor as guests see it, which is the host's own: vendor, family, model and a hash of what it can do. Two
 * hosts of one signature load each other's saved memory.
 */
export function cpuSignature(cpuinfo: string): string {
  const field = (name: string): string => new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(cpuinfo)?.[1]?.trim() ?? '';
  const flags = field('flags')
    .split(' ')
    .filter((flag) => GUEST_FLAGS.has(flag));
  const hash = createHash('sha256').update(flags.toSorted().join(' ')).digest('hex').slice(0, 12);
  return `kvm:${field('vendor_id')}-${field('cpu family')}-${field('model')}-${hash}`;
}
