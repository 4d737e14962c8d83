/**
 * Lets Node run the tools of this folder as the TypeScript they are: `node --import ./test/tools/typescript.mjs x.ts`.
 * The build leaves test/ out, and Node 20 reads no TypeScript by itself.
 */
import { register } from 'node:module';

register('./typescript-hooks.mjs', import.meta.url);
