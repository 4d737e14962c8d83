/**
 * The connections that this host carries into guests, as the steps need to steer
 * them: none may be open while memory is saved, and none may go on, or seem to have
 * ended well, once its guest is gone.
 */
export interface GuestConnections {
  /** Refuses new connections; those that exist get a moment to end and are then reset. */
  hold(sandboxId: string, signal?: AbortSignal): Promise<void>;
  /** Lets connections in again. */
  admit(sandboxId: string): void;
  /** The guest is gone: resets what exists at once and refuses new ones until `admit`. */
  cut(sandboxId: string): void;
  /** The address is about to go: as `cut`, and nothing is remembered, so that it may be given to another sandbox. */
  forget(sandboxId: string): void;
}

/** For a host without a data plane, as in workflow tests. */
export const noConnections: GuestConnections = {
  hold: async () => {},
  admit: () => {},
  cut: () => {},
  forget: () => {},
};
