import type { Command } from 'commander';
import pc from 'picocolors';
import type { CliConfig } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { addHelpPage } from '../help-page.js';
import { formatTable, printJson } from '../tables.js';

export function addDoctorCommand(program: Command, config: CliConfig): void {
  const command = program
    .command('doctor')
    .summary('what this machine offers, and which driver each part would use')
    .description(
      'Tries what this machine offers and shows which driver each port of the host worker would use, why, and what to do about what is missing. Changes nothing.',
    )
    .option('--json', 'facts and drivers as JSON', false)
    .action((options: { json: boolean }) => runDoctor(config, options.json));
  addHelpPage(command, {
    notes: [
      'KVM is tried by booting a small guest with a deadline, because /dev/kvm may open and still be unusable. Network namespaces, veth, tap and nftables are tried in a namespace that is deleted again, and a snapshot device over loop devices that are detached again. The host worker chooses its drivers with the same code.',
      'Where KVM, Cloud Hypervisor and device-mapper work, a host runs Cloud Hypervisor on dm-snapshot; everywhere else QEMU on qcow2. As long as a host has sandboxes it stays with the drivers that they were made with.',
      'A line marked ! is optional: the main job runs without it. A line marked ✗ is not.',
    ],
    environment: [
      ['TORPOR_HOME', 'where data would go; default: /var/lib/torpor as root, else ~/.local/share/torpor'],
      ['TORPOR_CACHE_DIR', 'where `torpor setup` builds; default: /var/cache/torpor as root, else ~/.cache/torpor'],
      ['TORPOR_HYPERVISOR', 'auto, cloud-hypervisor or qemu; a forced one that cannot work is an error'],
      ['TORPOR_DISK', 'auto, dm-snapshot or qcow2; the same'],
      ['TORPOR_QEMU_ACCEL', 'auto, kvm or tcg; the same'],
      ['TORPOR_CLOUD_HYPERVISOR_BIN', 'the binary, where it is not on PATH'],
      ['TORPOR_VM_CGROUP', 'control group for VMs, below /sys/fs/cgroup, as torpor-vms.service makes it'],
      ['DATABASE_URL, TEMPORAL_ADDRESS', 'servers of your own: the embedded ones are not looked for'],
    ],
    exit: [EXIT.ok, EXIT.usage],
    exitNotes: [['1', 'the main job cannot run on this machine']],
    examples: [
      ['sudo torpor doctor', 'look at everything'],
      ["sudo torpor doctor --json | jq '.facts[] | select(.ok | not)'", 'only what is missing'],
    ],
  });
}

async function runDoctor(config: CliConfig, json: boolean): Promise<void> {
  const { examineMachine } = await import('../platform/doctor-report.js');
  const report = await examineMachine(config);
  process.exitCode = report.ok ? EXIT.ok : EXIT.failed;
  if (json) return printJson(report);

  const mark = (ok: boolean, required: boolean) => (ok ? pc.green('✓') : required ? pc.red('✗') : pc.yellow('!'));
  process.stdout.write(
    `${formatTable(
      ['', 'this machine', 'found'],
      report.facts.map(({ name, ok, required, detail }) => [mark(ok, required), name, detail]),
    )}\n\n`,
  );
  process.stdout.write(
    `${formatTable(
      ['', 'port', 'driver', 'why'],
      report.drivers.map(({ port, driver, accel, why }) => [
        mark(driver !== undefined, true),
        port,
        driver === undefined ? 'none' : accel === undefined ? driver : `${driver} (${accel})`,
        why,
      ]),
    )}\n`,
  );
  const remedies = report.facts
    .filter(({ ok }) => !ok)
    .map(({ name, required, remedy }) => [mark(false, required), name, remedy ?? '']);
  if (remedies.length > 0) process.stdout.write(`\n${formatTable(['', 'missing', 'what to do'], remedies)}\n`);
  process.stdout.write(
    report.ok ? '\nThis machine can run sandboxes.\n' : '\nThis machine cannot run sandboxes yet.\n',
  );
}
