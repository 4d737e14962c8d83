import type { GuestProbe } from './guest-memory.js';
import { say } from './guest-memory.js';

/**
 * The same facts of a real Linux: the nonce and the counts live in the memory of a shell, which answers through files in
 * /dev/shm, and the pattern on the disk is a file with its checksum.
 */
const PROGRAM = `
nonce=$(cat /proc/sys/kernel/random/uuid)
ticks=0
count=0
while :; do
  ticks=$((ticks + 1))
  if [ -e /dev/shm/asked ]; then
    rm /dev/shm/asked
    count=$((count + 1))
    echo "$nonce $count $ticks" > /dev/shm/answer.new
    mv /dev/shm/answer.new /dev/shm/answer
  fi
  sleep 0.05
done`;

const START = `cat > /dev/shm/memory.sh <<'END'${PROGRAM}
END
setsid sh /dev/shm/memory.sh < /dev/null > /dev/null 2>&1 &`;

const ASK = `rm -f /dev/shm/answer; touch /dev/shm/asked
until [ -e /dev/shm/answer ]; do sleep 0.05; done; cat /dev/shm/answer`;

const FILE = '/var/tmp/chaos';

export const realGuest: GuestProbe = {
  plant: async (api, id, seed) => {
    await say(api, id, START);
    await say(
      api,
      id,
      `set -e; for n in 1 2 3 4 5 6 7 8; do echo ${seed} | sha256sum; done > ${FILE}; sha256sum ${FILE} > ${FILE}.sum; sync`,
    );
  },
  look: async (api, id) => {
    const [nonce = '', count, ticks] = (await say(api, id, ASK)).split(' ');
    return { nonce, count: Number(count), ticks: Number(ticks) };
  },
  checkDisk: async (api, id, seed) => {
    await say(api, id, `sha256sum -c --quiet ${FILE}.sum && grep -q "$(echo ${seed} | sha256sum)" ${FILE}`);
  },
};
