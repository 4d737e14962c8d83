/** Descriptor under which the VMM inherits the file that it writes its events to. */
const EVENTS_FD = 3;

/**
 * Of a VMM that waits for calls. What it logs goes to standard error; standard output is the guest's serial port.
 */
export function vmmArguments(vmm: { binary: string; control: string }): string[] {
  return [
    vmm.binary,
    ...['--api-socket', socketArgument(vmm.control)],
    ...['--event-monitor', `fd=${EVENTS_FD}`],
    ...['--seccomp', 'true'],
  ];
}

/** Which VM a process is: the kernel tells the arguments of each. */
export function socketArgument(control: string): string {
  return `path=${control}`;
}
