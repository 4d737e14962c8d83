/**
 * How long a host may be silent before it counts as lost. Heartbeats come every 5 s, so this is three missed ones and a
 * little; with the watch's own delays a silent host's sandboxes are `missing` well within 30 s.
 */
const HOST_LEASE_SECONDS = 20;

/** The API says every 5 s that it listens. Longer than this without a word, nobody could have been heard. */
export const API_SILENCE_SECONDS = 10;

/**
 * The time that hosts are judged by. It stands still while no API listens: silence towards somebody who does not listen
 * is no silence. The database's clock wrote the heartbeats and judges them: the processes' clocks may differ.
 */
const JUDGED_AT = `(SELECT least(now(), beat_at + interval '${API_SILENCE_SECONDS} seconds') FROM control_plane)`;

/**
 * When the lease of a row of `hosts` runs out. After an outage every host has a whole lease to be heard again; but one that
 * was lost before it is back only by its own heartbeat.
 */
const LEASE_ENDS_AT = `(greatest(heartbeat_at, CASE WHEN lost_at IS NULL THEN (SELECT up_since FROM control_plane) END)
  + interval '${HOST_LEASE_SECONDS} seconds')`;

/** Whether the host of a row of `hosts` is heard. The only definition of it. */
export const LEASE_HELD = `(${LEASE_ENDS_AT} > ${JUDGED_AT})`;

/** Milliseconds until the lease runs out; negative once it has. */
export const LEASE_LEFT_MS = `(extract(epoch FROM ${LEASE_ENDS_AT} - ${JUDGED_AT}) * 1000)::float8`;

/** Whether time passes for hosts: an API listens. */
export const API_LISTENS = `(SELECT beat_at + interval '${API_SILENCE_SECONDS} seconds' > now() FROM control_plane)`;
