import { CliError } from '../cli-error.js';
import { waitForBuild, waitForOperation } from '../operation-wait.js';
import { collect, type RestClient } from '../rest-client.js';
import type { Sandbox } from '../rest-types.js';

const EVERYTHING = 100_000;

/** Pauses every running sandbox to disk. Returns how many; one that cannot be paused is an error at the end, after the others. */
export async function pauseAll(client: RestClient, note: (text: string) => void): Promise<number> {
  const running = await collect(EVERYTHING, (query) => client.sandboxes({ ...query, state: 'running' }));
  return sweep(running, note, (id) => client.pause(id), client);
}

/** Destroys every sandbox there is, whatever its state. */
export async function destroyAll(client: RestClient, note: (text: string) => void): Promise<number> {
  const all = await collect(EVERYTHING, (query) => client.sandboxes(query));
  return sweep(all, note, (id) => client.destroy(id), client);
}

async function sweep(
  sandboxes: readonly Sandbox[],
  note: (text: string) => void,
  act: (id: string) => Promise<Sandbox>,
  client: RestClient,
): Promise<number> {
  const failures: unknown[] = [];
  for (const { id } of sandboxes) {
    note(id);
    try {
      const { operation } = await act(id);
      if (operation !== null) await waitForOperation(client, operation.id, () => undefined);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return sandboxes.length;
}

/** Stops template builds that are under way, and waits until their machines are gone. */
export async function cancelBuilds(client: RestClient, note: (text: string) => void): Promise<void> {
  const running = await collect(EVERYTHING, (query) => client.builds({ ...query, state: 'running' }));
  for (const { id } of running) {
    note(`build ${id}`);
    await client.cancelBuild(id);
    await waitForBuild(client, id, () => undefined).catch((error: unknown) => {
      // Cancelled is what it should become.
      if (!(error instanceof CliError)) throw error;
    });
  }
}
