import { buffer } from 'node:stream/consumers';
import type { CliConfig } from '../config.js';
import { findApi, RestClient } from '../rest-client.js';
import type { ExecRequest, ExecResult } from '../rest-types.js';
import { fullSandboxId } from '../sandbox-id.js';
import { printJson } from '../tables.js';

export interface ExecOptions {
  timeout: number;
  cwd?: string;
  env?: Record<string, string>;
  user?: string;
  stdin: boolean;
  json: boolean;
}

/** As timeout(1) says it, and as docker says that it failed itself rather than the command. */
const TIMED_OUT = 124;
const FAILED_ITSELF = 125;

export async function execInSandbox(
  config: CliConfig,
  id: string,
  words: string[],
  options: ExecOptions,
): Promise<void> {
  // From here on an error is ours; the command's own exit code replaces it below.
  process.exitCode = FAILED_ITSELF;
  const client = new RestClient(findApi(config));
  const full = await fullSandboxId(client, id);
  const result = await client.exec(full, await execRequest(words, options));
  if (options.json) printJson(result);
  else await writeOutput(result);
  process.exitCode = exitCode(result);
}

async function execRequest(words: string[], options: ExecOptions): Promise<ExecRequest> {
  const [only] = words;
  return {
    // One word is a line for the shell, several are a program and its arguments as they are.
    ...(words.length === 1 && only !== undefined ? { command: only } : { argv: words }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.user === undefined ? {} : { user: options.user }),
    ...(options.stdin ? { stdin_base64: (await buffer(process.stdin)).toString('base64') } : {}),
    timeout_seconds: options.timeout,
    max_output_bytes: 16 * 1024 * 1024,
  };
}

async function writeOutput({ stdout, stderr, encoding, timed_out, truncated, duration_ms }: ExecResult): Promise<void> {
  const from = encoding === 'base64' ? 'base64' : 'utf8';
  await write(process.stdout, Buffer.from(stdout, from));
  await write(process.stderr, Buffer.from(stderr, from));
  if (truncated) process.stderr.write('torpor: the output was cut off at 16 MiB\n');
  if (timed_out)
    process.stderr.write(
      `torpor: the command was killed after ${Math.round(duration_ms / 1000)} s; --timeout changes that\n`,
    );
}

/** A pipe takes large output in parts, and leaving before it took them all would cut it off. */
function write(stream: NodeJS.WriteStream, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => stream.write(bytes, (error) => (error == null ? resolve() : reject(error))));
}

export function exitCode({ exit_code, timed_out }: Pick<ExecResult, 'exit_code' | 'timed_out'>): number {
  if (timed_out) return TIMED_OUT;
  // -1: a signal ended it, and which one is not told.
  return exit_code < 0 ? 128 : exit_code;
}
