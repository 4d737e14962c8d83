import type { Command } from 'commander';
import { TEMPLATE_NAME_PATTERN } from '../../workflows/contract/ids.js';
import { CliError } from '../cli-error.js';
import type { CliConfig } from '../config.js';
import { age } from '../durations.js';
import { EXIT } from '../exit-codes.js';
import { addHelpPage, apiPage } from '../help-page.js';
import { describeBuild, waitForBuild } from '../operation-wait.js';
import { list, positiveInteger } from '../option-values.js';
import { collect, findApi, RestClient } from '../rest-client.js';
import type { Build, BuildRequest } from '../rest-types.js';
import { StepReport } from '../step-report.js';
import { printJson, printTable } from '../tables.js';

interface BuildOptions {
  image?: string;
  vcpus?: number;
  memory?: number;
  setup?: string[];
  wait: boolean;
  json: boolean;
}

export function addTemplateCommands(program: Command, config: CliConfig): void {
  const template = program
    .command('template')
    .summary('what sandboxes start from')
    .description(
      'A template is a root filesystem and a size, with warm snapshots that create restores instead of booting.',
    );

  const ls = template
    .command('ls')
    .alias('list')
    .summary('list templates')
    .description("Lists the platform's templates and your own, with their warm snapshots.")
    .option('--json', 'as JSON', false)
    .action((options: { json: boolean }) => listTemplates(config, options.json));
  addHelpPage(ls, apiPage({ examples: [['torpor template ls', 'what there is']] }));

  const build = template
    .command('build')
    .summary('build a template and its warm snapshot')
    .description(
      'Boots an image on a host, runs the set-up commands, and saves memory and disk. The template is made if it is new. Follows the build log.',
    )
    .argument('<name>', 'name of the template')
    .option('--image <name>', 'root filesystem to start from (default: "minimal")')
    .option('--vcpus <n>', 'virtual processors (default: 1)', positiveInteger)
    .option('--memory <MiB>', 'memory (default: 512)', positiveInteger)
    .option('--setup <command>', 'run in the guest as root; repeatable, in order', list)
    .option('--no-wait', 'return as soon as it is accepted')
    .option('--json', 'the build as JSON; its log goes to standard error', false)
    .action((name: string, options: BuildOptions) => buildTemplate(config, name, options));
  addHelpPage(
    build,
    apiPage({
      notes: [
        'The build is a workflow on the server: an interrupted wait does not stop it. A set-up command that does not end with 0 fails it.',
      ],
      examples: [
        ['torpor template build minimal', 'a warm snapshot of the plain image'],
        [
          'torpor template build tools --memory 1024 --setup "apt-get update" --setup "apt-get install -y git"',
          'with software in it',
        ],
      ],
    }),
  );

  const cancel = template
    .command('cancel')
    .summary('stop a build')
    .description('Stops a build that is under way; what it made is removed.')
    .argument('<build>', 'id of the build')
    .option('--json', 'the build as JSON', false)
    .action(async (id: string, options: { json: boolean }) => {
      const stopped = await new RestClient(findApi(config)).cancelBuild(id);
      if (options.json) printJson(stopped);
      else process.stdout.write(`${stopped.id} ${stopped.state}\n`);
    });
  addHelpPage(cancel, apiPage({ examples: [['torpor template cancel BUILD', 'stop it']] }));
}

async function listTemplates(config: CliConfig, json: boolean): Promise<void> {
  const client = new RestClient(findApi(config));
  const templates = await collect(10_000, (query) => client.templates(query));
  if (json) return printJson(templates);
  printTable(
    ['name', 'scope', 'image', 'cpus', 'memory', 'created', 'warm snapshots'],
    templates.map(({ name, scope, image, vcpus, memory_mb, created_at, warm }) => [
      name,
      scope,
      image,
      String(vcpus),
      `${memory_mb} MiB`,
      `${age(created_at)} ago`,
      warm.map((one) => `${one.vcpus} × ${one.memory_mb} MiB on ${one.host_id}`).join(', '),
    ]),
  );
}

async function buildTemplate(config: CliConfig, name: string, options: BuildOptions): Promise<void> {
  if (!TEMPLATE_NAME_PATTERN.test(name)) {
    throw new CliError(
      `${JSON.stringify(name)} is no template name: up to 64 letters, digits, dots, dashes and underscores`,
      { exitCode: EXIT.usage },
    );
  }
  const client = new RestClient(findApi(config));
  let build = await client.build(buildRequest(name, options));
  if (options.wait) build = await followBuild(client, build, options.json);
  if (options.json) printJson(build);
  else process.stdout.write(`${build.id}\n`);
}

async function followBuild(client: RestClient, { id, template }: Build, json: boolean): Promise<Build> {
  const report = new StepReport(false, process.stderr);
  let shown = 0;
  return report.step(
    `build ${template}`,
    (note) =>
      waitForBuild(client, id, async (now) => {
        if (!json) note(describeBuild(now));
        const more = await client.buildLog(id, shown);
        shown += Buffer.byteLength(more);
        process.stderr.write(more);
      }),
    () => id,
  );
}

function buildRequest(template: string, { image, vcpus, memory, setup }: BuildOptions): BuildRequest {
  return {
    template,
    ...(image === undefined ? {} : { image }),
    ...(vcpus === undefined ? {} : { vcpus }),
    ...(memory === undefined ? {} : { memory_mb: memory }),
    ...(setup === undefined ? {} : { setup }),
  };
}
