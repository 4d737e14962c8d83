/** Where the servers of a platform listen. */
export interface Addresses {
  databaseUrl: string;
  temporal: string;
  api: string;
}
