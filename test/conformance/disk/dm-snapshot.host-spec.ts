import { tmpdir } from 'node:os';
import { jest } from '@jest/globals';
import { describeWhen } from '../../support/needs.js';
import { describeDiskConformance } from './disk.conformance.js';
import { describeDiskHardship } from './disk-hardship.conformance.js';
import { DEVICE_MAPPER, HAS_DEVICE_MAPPER, makeDmHarness } from './dm-lab.js';

/** Under software emulation a command takes a good part of a second. */
jest.setTimeout(300_000);

describeWhen(HAS_DEVICE_MAPPER, DEVICE_MAPPER, 'dm-snapshot', () => {
  const make = () => makeDmHarness(tmpdir());
  describeDiskConformance('dm-snapshot', make);
  describeDiskHardship('dm-snapshot', make);
});
