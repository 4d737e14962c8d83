import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';
import { collect, type RestClient } from './rest-client.js';

const FULL_LENGTH = 20;
const LOOK_AT = 1_000;

/** The id that an abbreviation stands for. A full id costs no request. */
export async function fullSandboxId(client: RestClient, id: string): Promise<string> {
  if (!/^[a-z0-9]{1,40}$/.test(id)) {
    throw new CliError(`${JSON.stringify(id)} is no sandbox id: it consists of small letters and digits`, {
      exitCode: EXIT.usage,
    });
  }
  if (id.length >= FULL_LENGTH) return id;
  const sandboxes = await collect(LOOK_AT, (query) => client.sandboxes(query));
  const matches = sandboxes.filter((sandbox) => sandbox.id.startsWith(id));
  const [match] = matches;
  // None of the living: the server may know a stopped one by exactly this id, or says that it does not.
  if (match === undefined) return id;
  if (matches.length === 1) return match.id;
  throw new CliError(
    `${id} is the beginning of ${matches.length} sandboxes: ${matches.map((one) => one.id).join(', ')}`,
    {
      suggestion: 'give more of the id',
      exitCode: EXIT.usage,
    },
  );
}
