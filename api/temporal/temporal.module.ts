import { Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { Client, Connection } from '@temporalio/client';
import type { Config } from '../config.js';
import { TemporalCalls } from './temporal-calls.js';

/** Connects when first asked, so that the process starts, and reads work, while Temporal is down. */
@Module({})
export class TemporalModule implements OnApplicationShutdown {
  constructor(private readonly client: Client) {}

  static forConfig(config: Config): DynamicModule {
    const useFactory = (): Client =>
      new Client({
        connection: Connection.lazy({ address: config.temporalAddress }),
        namespace: config.temporalNamespace,
      });
    return {
      module: TemporalModule,
      global: true,
      providers: [{ provide: Client, useFactory }, TemporalCalls],
      exports: [Client, TemporalCalls],
    };
  }

  async onApplicationShutdown(): Promise<void> {
    await this.client.connection.close();
  }
}
