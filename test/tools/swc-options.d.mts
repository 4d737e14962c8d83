import type { Options } from '@swc/core';

export const SWC_OPTIONS: Options;
export const SWC_MODULE_OPTIONS: Options;
