import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Verdict } from '../../../activities/host/contract.js';
import { deferred } from '../../support/deferred.js';

export const HOST_ID = 'h0stpr0cess';
export const REGISTRATION_TOKEN = 'first';

/** The API's host routes, as far as a worker needs them; what a guest is told can be kept back. */
export class StubControlPlane {
  readonly #server: Server;
  /** A worker asks what to tell a guest. */
  readonly asked = deferred();
  /** What it says of sandboxes; it has never heard of any other. */
  readonly verdicts = new Map<string, Verdict>();
  readonly #mayAnswer = deferred();

  private constructor() {
    this.#server = createServer((req, res) => {
      const path = req.url ?? '';
      let sent = '';
      req.setEncoding('utf8').on('data', (text: string) => (sent += text));
      req.on('end', () => {
        if (path === '/v1/hosts/register') return this.#register(req.headers['x-registration-token'], res);
        if (path === '/v1/hosts/self/heartbeat') return json(res, 200, { host_id: HOST_ID });
        if (path.endsWith('/guest-config')) return void this.#guestConfig(res);
        if (path === '/v1/hosts/self/verdicts') return this.#verdicts(sent, res);
        return json(res, 200, { items: [] });
      });
    });
  }

  static async open(): Promise<StubControlPlane> {
    const stub = new StubControlPlane();
    await new Promise<void>((resolve) => stub.#server.listen(0, '127.0.0.1', resolve));
    return stub;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  answer(): void {
    this.#mayAnswer.resolve();
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #verdicts(sent: string, res: ServerResponse): void {
    const { ids } = JSON.parse(sent) as { ids: string[] };
    const said = (verdict: Verdict) => ids.filter((id) => (this.verdicts.get(id) ?? 'unknown') === verdict);
    json(res, 200, { live: said('live'), ended: said('ended'), unknown: said('unknown') });
  }

  #register(token: unknown, res: ServerResponse): void {
    if (token === REGISTRATION_TOKEN) json(res, 201, { host_id: HOST_ID, token: 'tph_1' });
    else json(res, 401, { error: { code: 'unauthorized', message: 'unknown registration token' } });
  }

  async #guestConfig(res: ServerResponse): Promise<void> {
    this.asked.resolve();
    await this.#mayAnswer.promise;
    json(res, 200, { access_token: 't', env: {}, template_id: 'minimal', user: 'user' });
  }
}

function json(res: ServerResponse, status: number, body: object): void {
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
