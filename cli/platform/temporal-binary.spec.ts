import { describe, expect, it } from '@jest/globals';
import { unfitVersion } from './temporal-binary.js';

describe('unfitVersion', () => {
  it.each([
    'temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)',
    'temporal version 1.4.0 (Server 1.28.0, UI 2.47.0)',
    '(Server 2.0.0, UI 3.1.0)',
  ])('accepts %s', (output) => expect(unfitVersion(output)).toBeUndefined());

  it.each([
    ['temporal version 1.3.0 (Server 1.27.2, UI 2.54.1)', 'server 1.27'],
    ['temporal version 1.3.0 (Server 1.32.0, UI 2.9.1)', 'UI 2.9'],
    ['some other program', 'does not tell'],
  ])('refuses %s', (output, why) => expect(unfitVersion(output)).toContain(why));
});
