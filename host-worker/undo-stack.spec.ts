import { describe, expect, it } from '@jest/globals';
import { UndoStack } from './undo-stack.js';

describe('UndoStack', () => {
  it('undoes in reverse and returns the cause', async () => {
    const order: string[] = [];
    const undo = new UndoStack();
    undo.push('first', async () => order.push('first'));
    undo.push('second', async () => order.push('second'));
    const cause = new Error('why');
    expect(await undo.unwind(cause)).toBe(cause);
    expect(order).toEqual(['second', 'first']);
  });

  it('goes on after an undo that fails and tells of it beside the cause', async () => {
    const order: string[] = [];
    const undo = new UndoStack();
    undo.push('file', async () => order.push('file'));
    undo.push('device', () => Promise.reject(new Error('busy')));
    const cause = new Error('why');
    const joined = await undo.unwind(cause);
    expect(order).toEqual(['file']);
    expect(joined).toMatchObject({ message: 'why; could not undo "device": busy', cause });
  });

  it('undoes once', async () => {
    let times = 0;
    const undo = new UndoStack();
    undo.push('it', async () => (times += 1));
    await undo.unwind(new Error('a'));
    await undo.unwind(new Error('b'));
    expect(times).toBe(1);
  });
});
