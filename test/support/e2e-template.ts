/** All sandboxes of the tier are made from it unless they ask for another. Small, so that saving and restoring it takes a moment. */
export const TEMPLATE = { template: 'small', vcpus: 1, memory_mb: 256 } as const;
