export class CheckDto {
  ok!: boolean;
  reason?: string;
}

export class ChecksDto {
  postgres!: CheckDto;
  temporal!: CheckDto;
  /** At least one host is online. Reads and operations on paused sandboxes work without. */
  hosts!: CheckDto;
}

export class LiveDto {
  status!: 'ok';
  version!: string;
}

export class HealthDto {
  /** `degraded`: something is not ok. 503 when that is Postgres or Temporal. */
  status!: 'ok' | 'degraded';
  version!: string;
  checks!: ChecksDto;
}
