import { Connection } from '@temporalio/client';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/search-attributes.js';
import { CliError } from '../cli-error.js';
import { EXIT } from '../exit-codes.js';

export interface TemporalTarget {
  address: string;
  namespace: string;
}

/** A server that has just started on a busy machine takes its time for the first call. */
const CONNECT_MS = 30_000;

/** INDEXED_VALUE_TYPE_KEYWORD of the server's API; all of ours are keywords. */
const KEYWORD = 2;

export async function connectTemporal({ address, namespace }: TemporalTarget): Promise<Connection> {
  try {
    const connection = await Connection.connect({ address, connectTimeout: CONNECT_MS });
    await connection.withDeadline(Date.now() + CONNECT_MS, () =>
      connection.workflowService.describeNamespace({ namespace }),
    );
    return connection;
  } catch (error) {
    const notFound = /not found/i.test((error as Error).message);
    throw new CliError(
      `Temporal at ${address} ${notFound ? `has no namespace ${namespace}` : `cannot be reached: ${(error as Error).message}`}`,
      {
        suggestion: notFound
          ? `make it: temporal operator namespace create --address ${address} --namespace ${namespace} --retention 30d`
          : 'see that the server of TEMPORAL_ADDRESS runs, or unset it to use the embedded one',
        exitCode: EXIT.unreachable,
        cause: error,
      },
    );
  }
}

/** Makes the search attributes that are missing and returns their names. */
export async function ensureSearchAttributes(connection: Connection, namespace: string): Promise<string[]> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  const missing = SEARCH_ATTRIBUTES.map(({ name }) => name).filter((name) => !(name in (customAttributes ?? {})));
  if (missing.length > 0) {
    const searchAttributes = Object.fromEntries(missing.map((name) => [name, KEYWORD]));
    await connection.operatorService.addSearchAttributes({ namespace, searchAttributes });
  }
  return missing;
}
