/** KVM_CLOCK_REALTIME of linux/kvm.h: a clock that is set goes forward by what has passed since it was read. */
const REALTIME = 1 << 2;
/** Of `struct kvm_clock_data`, the lowest byte of `flags` follows the eight of `clock`. The state has its bytes as a list. */
const KVM_CLOCK = /(clock\\*"\s*:\s*\{\s*\\*"Kvm\\*"\s*:\s*\[\s*(?:\d+\s*,\s*){8})(\d+)/;

/**
 * The saved state of a VM, for a guest that goes on at the time at which it stood. From v53 the VMM saves the clock so
 * that it catches up with what has passed: all timers of a sandbox that was paused for a day would go off at once. Which
 * day it is, the guest is told by its agent. Text is changed rather than parsed, because numbers of 64 bits do not survive
 * that. Undefined where there is no such clock.
 */
export function withStandingClock(state: string): string | undefined {
  if (!KVM_CLOCK.test(state)) return undefined;
  return state.replace(KVM_CLOCK, (_, before: string, flags: string) => `${before}${Number(flags) & ~REALTIME}`);
}
