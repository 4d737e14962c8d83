/** The four ways in which a platform breaks its promise. */
export const VIOLATIONS = ['lost', 'duplicated', 'leaked', 'stuck'] as const;
export type ViolationKind = (typeof VIOLATIONS)[number];

export interface Violation {
  kind: ViolationKind;
  what: string;
}

export const lost = (what: string): Violation => ({ kind: 'lost', what });
export const duplicated = (what: string): Violation => ({ kind: 'duplicated', what });
export const leaked = (what: string): Violation => ({ kind: 'leaked', what });
export const stuck = (what: string): Violation => ({ kind: 'stuck', what });
