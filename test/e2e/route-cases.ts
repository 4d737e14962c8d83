/** What the path of a route names: something of the team's that is there. */
export type Subject = 'sandbox' | 'operation' | 'build';

export interface RouteCase {
  /** Who may call it, as the OpenAPI document says. */
  access: 'team' | 'operator' | 'host' | 'registration' | 'public';
  /** What `{id}` stands for. */
  id?: Subject;
  /** A body that is right; those that are wrong are made from it. */
  body?: Record<string, unknown>;
  /** Right in every field and wrong as a whole: what is changed, and what the answer must name. */
  wrong?: [Record<string, unknown>, string][];
  /** The states of its subject in which it is refused with 409. */
  refusedWhen?: readonly string[];
}

const HOST_INFO = {
  ...{ name: 'elsewhere', arch: 'x86_64', version: '0', vcpus: 1, memory_mb: 1, disk_mb: 0 },
  ...{ data_plane_url: 'http://127.0.0.1:9', data_plane_token: 'sixteen-characters' },
  ...{ hypervisor: 'none', hypervisor_version: '0', cpu: 'none', images: [] },
  drivers: { hypervisor: 'none', disk: 'none', network: 'none' },
};

/** Every route of the API. One that is missing here fails the test that compares this with the OpenAPI document. */
export const ROUTES: Readonly<Record<string, RouteCase>> = {
  'GET /health': { access: 'public' },
  'GET /health/live': { access: 'public' },
  'GET /health/ready': { access: 'public' },

  'POST /v1/sandboxes': {
    access: 'team',
    body: {},
    wrong: [
      [{ template: 'not there' }, 'template'],
      [{ egress: true, network: { egress: false } }, 'network.egress'],
      [{ network: { deny: [{ cidr: 'all' }] } }, 'network.deny.0.cidr'],
      [{ metadata: { key: 1 } }, 'metadata'],
      [{ metadata: { ['k'.repeat(65)]: 'v' } }, 'metadata'],
      [{ metadata: { key: 'v'.repeat(513) } }, 'metadata'],
      [{ metadata: Object.fromEntries(Array.from({ length: 51 }, (_, index) => [`k${index}`, 'v'])) }, 'metadata'],
      [{ env: { 'NOT-A-NAME': 'v' } }, 'NOT-A-NAME'],
      [{ env: { BIG: 'v'.repeat(65_536) } }, 'env'],
      [{ env: { NUL: 'a\0b' } }, 'env'],
    ],
  },
  'GET /v1/sandboxes': { access: 'team' },
  'GET /v1/sandboxes/{id}': { access: 'team', id: 'sandbox' },
  'DELETE /v1/sandboxes/{id}': { access: 'team', id: 'sandbox' },
  'POST /v1/sandboxes/{id}/pause': { access: 'team', id: 'sandbox', refusedWhen: ['paused', 'stopped'] },
  'POST /v1/sandboxes/{id}/resume': { access: 'team', id: 'sandbox', body: {}, refusedWhen: ['running', 'stopped'] },
  'POST /v1/sandboxes/{id}/recover': {
    access: 'team',
    id: 'sandbox',
    body: {},
    refusedWhen: ['paused', 'stopped'],
  },
  'GET /v1/sandboxes/{id}/network': { access: 'team', id: 'sandbox' },
  'PUT /v1/sandboxes/{id}/network': {
    access: 'team',
    id: 'sandbox',
    body: { egress: true },
    wrong: [
      [{ allow: [{}] }, 'allow.0.cidr'],
      [{ allow: [{ cidr: '10.0.0.5/8' }] }, '10.0.0.0/8'],
      [{ deny: [{ cidr: '::/0' }] }, 'IPv6'],
      [{ deny: [{ cidr: '10.0.0.0/8', ports: '9-8' }] }, 'deny.0.ports'],
      [{ deny: [{ cidr: '10.0.0.0/8', protocol: 'icmp' }] }, 'deny.0.protocol'],
      [{ deny: [{ cidr: '10.0.0.0/8', port: '443' }] }, 'deny.0.port'],
      [{ allow: Array(65).fill({ cidr: '10.0.0.0/8' }) }, 'allow must contain no more than 64'],
    ],
    refusedWhen: ['stopped'],
  },
  'POST /v1/sandboxes/{id}/timeout': {
    access: 'team',
    id: 'sandbox',
    body: { timeout_seconds: 0 },
    refusedWhen: ['stopped'],
  },
  'POST /v1/sandboxes/{id}/ping': { access: 'team', id: 'sandbox', refusedWhen: ['paused', 'stopped'] },
  'POST /v1/sandboxes/{id}/exec': {
    access: 'team',
    id: 'sandbox',
    body: { command: 'true' },
    wrong: [
      [{ command: undefined }, 'command'],
      [{ argv: ['true'] }, 'argv'],
      [{ command: undefined, argv: [] }, 'argv'],
      [{ command: 'a\0b' }, 'command'],
      [{ stdin: 'a', stdin_base64: 'YQ==' }, 'stdin_base64'],
      [{ stdin_base64: '%' }, 'stdin_base64'],
      [{ user: 'Not a user' }, 'user'],
      [{ env: { '1ST': 'v' } }, '1ST'],
    ],
    refusedWhen: ['paused', 'stopped'],
  },
  'GET /v1/sandboxes/{id}/events': { access: 'team', id: 'sandbox' },
  'GET /v1/sandboxes/{id}/console': { access: 'team', id: 'sandbox' },

  'GET /v1/operations': { access: 'team' },
  'GET /v1/operations/{id}': { access: 'team', id: 'operation' },
  'POST /v1/operations/{id}/retry': { access: 'team', id: 'operation', refusedWhen: ['succeeded'] },

  'GET /v1/templates': { access: 'team' },
  'POST /v1/templates/builds': {
    access: 'team',
    body: { template: 'wrong-input' },
    wrong: [
      [{ template: '-starts-with-a-dash' }, 'template'],
      [{ image: '../etc' }, 'image'],
      [{ setup: [''] }, 'setup'],
      [{ setup: Array(101).fill('true') }, 'setup'],
    ],
  },
  'GET /v1/templates/builds': { access: 'team' },
  'GET /v1/templates/builds/{id}': { access: 'team', id: 'build' },
  'GET /v1/templates/builds/{id}/log': { access: 'team', id: 'build' },
  'POST /v1/templates/builds/{id}/cancel': { access: 'team', id: 'build', refusedWhen: ['ready'] },

  'GET /v1/hosts': { access: 'team' },
  'POST /v1/hosts/register': {
    access: 'registration',
    body: HOST_INFO,
    wrong: [
      [{ name: 'two words' }, 'name'],
      [{ data_plane_url: 'ftp://127.0.0.1:9' }, 'data_plane_url'],
      [{ data_plane_token: 'short' }, 'data_plane_token'],
      [{ drivers: { hypervisor: 'none', disk: 'none' } }, 'drivers.network'],
      [{ images: [1] }, 'images'],
    ],
  },
  'POST /v1/hosts/self/heartbeat': { access: 'host', body: HOST_INFO },
  'POST /v1/hosts/self/verdicts': {
    access: 'host',
    body: { ids: [] },
    wrong: [
      [{ ids: Array(1001).fill('a') }, 'ids'],
      [{ ids: ['a'.repeat(257)] }, 'ids'],
    ],
  },
  'GET /v1/hosts/self/sandboxes': { access: 'host' },
  'GET /v1/hosts/self/sandboxes/{id}/guest-config': { access: 'host', id: 'sandbox' },

  'POST /v1/ops/reconcile': { access: 'operator', body: { dry_run: true } },
  'GET /v1/ops/findings': { access: 'operator' },
};

/** For parameters of which the document only says that they are text: what is not theirs. */
export const WRONG_TEXT: Readonly<Record<string, readonly string[]>> = {
  state: ['nonsense', 'running,nonsense', ','],
  kind: ['nonsense'],
  // Cursors are text of ours: whoever takes one apart can put another one together.
  cursor: ['nonsense', ...[[1, 'a\0b'], [9e15, 'a'], [-9e15, 'a'], ['now', 'a'], [1], null].map(asCursor)],
  template: ['-starts-with-a-dash'],
  sandbox_id: ['UPPER', 'a\0b'],
  metadata: ['not-a-map'],
};

function asCursor(content: unknown): string {
  return Buffer.from(JSON.stringify(content)).toString('base64url');
}
