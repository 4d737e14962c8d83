import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { formatTable } from './tables.js';

/** Whether colours are on depends on where the tests run. */
const plain = stripVTControlCharacters;

describe('formatTable', () => {
  it('aligns columns without lines or trailing blanks', () => {
    const table = plain(
      formatTable(
        ['id', 'state'],
        [
          ['a', 'running'],
          ['longer', ''],
        ],
      ),
    );
    expect(table.split('\n')).toEqual(['ID      STATE', 'a       running', 'longer']);
  });

  it('shows the head alone when there are no rows', () => {
    expect(plain(formatTable(['id'], []))).toBe('ID');
  });
});
