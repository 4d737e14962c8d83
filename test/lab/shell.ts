/** `npm run lab:shell`: a stand-in host for a person at a terminal. */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { TerminalInput } from '../../cli/terminal-input.js';
import { ROOT } from '../support/root.js';
import { AS_ROOT, LAB_ENVIRONMENT } from './lab-agent.js';
import { LabRig } from './lab-rig.js';
import { Lab } from './lab.js';

const HELP = `NAME
  lab:shell - a shell in a stand-in for a production host

SYNOPSIS
  npm run lab:shell -- [--systemd] [--memory MB] [--tree DIR] [--keep DIR] [--run SCRIPT]

DESCRIPTION
  Boots an emulated machine with a stock kernel that has device-mapper, network namespaces and nested KVM, and gives a
  root shell in it. The working tree is at /torpor/tree (writable; the changes go with the lab), what \`torpor setup\`
  leaves at /var/cache/torpor, programs that were put in at /torpor/bin. This machine's loopback is at ${Lab.OUTSIDE}.
  Leaving the shell ends the lab.

OPTIONS
  --systemd      start systemd and udev, as a production machine does; without it a few lines of shell do
  --memory MB    of the lab (default: 3072)
  --tree DIR     the working tree to take in, with its dist/ if it is built (default: this one)
  --keep DIR     keep the lab's disks in DIR, and go on with those that are there
  --run SCRIPT   run this script by bash instead of a shell; ends with its exit status
  --help         this text

FILES
  The kernel's messages are in console.log beside the disks, which the first line names.

ENVIRONMENT
  TORPOR_CACHE_DIR              where images are kept (default: /var/cache/torpor)
  TORPOR_CLOUD_HYPERVISOR_BIN   put into the lab as /torpor/bin/cloud-hypervisor (default: the one on PATH, if any)
`;

const { values } = parseArgs({
  options: {
    systemd: { type: 'boolean', default: false },
    memory: { type: 'string' },
    tree: { type: 'string', default: ROOT },
    keep: { type: 'string' },
    run: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(HELP);
} else {
  process.exitCode = await main();
}

async function main(): Promise<number> {
  const kept = values.keep === undefined ? {} : { directory: resolve(values.keep) };
  const rig = await LabRig.open({ tree: resolve(values.tree), ...kept });
  try {
    const started = performance.now();
    const memory = values.memory === undefined ? {} : { memoryMb: Number(values.memory) };
    const lab = await rig.start('lab', { init: values.systemd ? 'systemd' : 'fast', ...memory });
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    process.stderr.write(`lab up after ${seconds} s; its disks and logs: ${rig.directory}\n`);
    try {
      return values.run === undefined ? await terminal(lab) : await script(lab, values.run);
    } finally {
      await lab.stop();
    }
  } finally {
    await rig.close();
  }
}

async function script(lab: Lab, text: string): Promise<number> {
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));
  const { exitCode } = await lab.run(text, {
    signal: interrupted.signal,
    onOutput: (bytes, stream) => void process[stream].write(bytes),
  });
  return exitCode;
}

async function terminal(lab: Lab): Promise<number> {
  const { client } = lab.agent;
  const size = () => ({ cols: process.stdout.columns || 80, rows: process.stdout.rows || 24 });
  const events = client.start(
    {
      process: {
        cmd: '/bin/bash',
        args: ['-l'],
        cwd: '/torpor/tree',
        envs: { ...LAB_ENVIRONMENT, TERM: 'xterm-256color' },
      },
      pty: { size: size() },
    },
    { headers: AS_ROOT },
  );
  let input: TerminalInput | undefined;
  try {
    for await (const { event } of events) {
      const happened = event?.event;
      if (happened?.case === 'start') {
        const selected = { selector: { case: 'pid' as const, value: happened.value.pid } };
        input = new TerminalInput({
          input: async (bytes) => {
            const keys = { input: { case: 'pty' as const, value: bytes } };
            await client.sendInput({ process: selected, input: keys }, { headers: AS_ROOT });
          },
          resize: async () =>
            void (await client.update({ process: selected, pty: { size: size() } }, { headers: AS_ROOT })),
        });
      }
      if (happened?.case === 'data' && happened.value.output.case === 'pty')
        process.stdout.write(happened.value.output.value);
      if (happened?.case === 'end') return happened.value.exited ? happened.value.exitCode : 128;
    }
    throw new Error('the lab went away');
  } finally {
    input?.close();
  }
}
