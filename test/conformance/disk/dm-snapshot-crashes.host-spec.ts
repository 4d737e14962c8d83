import { tmpdir } from 'node:os';
import { describeWhen } from '../../support/needs.js';
import { describeDiskCrashes } from './disk-crashes.conformance.js';
import { DEVICE_MAPPER, HAS_DEVICE_MAPPER, makeDmHarness } from './dm-lab.js';

/** By itself: under software emulation each of some thousand commands takes a good part of a second. */
describeWhen(HAS_DEVICE_MAPPER, DEVICE_MAPPER, 'dm-snapshot', () => {
  // The other ways to die are tried on the simulated kernel, where they take seconds.
  describeDiskCrashes('dm-snapshot', () => makeDmHarness(tmpdir()), ['after']);
});
