import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Api } from './e2e-api.js';

const run = promisify(execFile);

/** What rules drop is never answered, so this is how long a failure takes. */
const CONNECT_SECONDS = 3;

/** Which of these `address:port` a program in the guest can connect to; all are tried at once. */
export async function reached(api: Api, id: string, targets: readonly string[]): Promise<string[]> {
  const tries = targets.map((target) => {
    const [address, port] = target.split(':');
    return `(timeout ${CONNECT_SECONDS} bash -c 'exec 3<>/dev/tcp/${address}/${port}' 2> /dev/null && echo ${target}) &`;
  });
  const text = await api.sh(id, `${tries.join('\n')}\nwait`);
  const lines = new Set(text.split('\n'));
  return targets.filter((target) => lines.has(target));
}

/** Answers HTTP in the guest, in the only language that every Debian has; returns when it listens. */
export async function serveHttp(api: Api, id: string, port: number, text: string): Promise<void> {
  const program = `
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => ${port}, Listen => 16, ReuseAddr => 1) or die;
open(my $ready, ">", "/tmp/listens-${port}"); close($ready);
while (my $client = $server->accept) {
  my $request = <$client>;
  while (defined(my $line = <$client>)) { last if $line =~ /^\\r?$/ }
  $request =~ s/\\s+$//;
  my $body = "${text} $request";
  print $client "HTTP/1.1 200 OK\\r\\nContent-Length: " . length($body) . "\\r\\nConnection: close\\r\\n\\r\\n$body";
  close($client);
}`;
  await api.sh(
    id,
    `cat > /tmp/server.pl
setsid perl /tmp/server.pl < /dev/null > /tmp/server.log 2>&1 &
until [ -e /tmp/listens-${port} ]; do kill -0 $! || { cat /tmp/server.log >&2; exit 1; }; sleep 0.05; done`,
    { stdin: program },
  );
}

/** Where the host reaches the guest: the address of its namespace. */
export async function addressOf(id: string): Promise<string> {
  const { stdout } = await run('ip', ['-n', `sbx-${id}`, '-json', '-4', 'address', 'show', 'dev', 'eth0']);
  const [link] = JSON.parse(stdout) as { addr_info: { local: string }[] }[];
  const address = link?.addr_info[0]?.local;
  if (address === undefined) throw new Error(`the namespace of ${id} has no address: ${stdout}`);
  return address;
}
