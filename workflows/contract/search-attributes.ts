import { defineSearchAttributeKey } from '@temporalio/common';

/** Typed search attributes of every run, registered by `torpor up`. All are keywords. */
export const SANDBOX_ID = defineSearchAttributeKey('SandboxId', 'KEYWORD');
export const TEAM_ID = defineSearchAttributeKey('TeamId', 'KEYWORD');
export const HOST_ID = defineSearchAttributeKey('HostId', 'KEYWORD');
export const TEMPLATE_ID = defineSearchAttributeKey('TemplateId', 'KEYWORD');
export const OP_ID = defineSearchAttributeKey('OpId', 'KEYWORD');
/** The step that is under way, or how the run ended. */
export const STAGE = defineSearchAttributeKey('Stage', 'KEYWORD');

export const SEARCH_ATTRIBUTES = [SANDBOX_ID, TEAM_ID, HOST_ID, TEMPLATE_ID, OP_ID, STAGE] as const;
