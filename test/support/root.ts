import { fileURLToPath } from 'node:url';

/** The checkout, wherever it is and whatever the working directory. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
