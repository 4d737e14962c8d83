/** 0.012 s, 3.4 s, 2 m 10 s, 3 h 5 m: three digits are enough for anybody who waits. */
export function seconds(ms: number): string {
  if (ms < 10_000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} m ${Math.round((ms % 60_000) / 1000)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} m`;
}

/** How long ago a time of the API was: `5 s`, `3 m`, `2 h`, `4 d`. */
export function age(iso: string, now = Date.now()): string {
  return roughly(now - Date.parse(iso));
}

/** How long it still is to a time of the API. */
export function remaining(iso: string, now = Date.now()): string {
  return roughly(Date.parse(iso) - now);
}

function roughly(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}
