import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../support/root.js';
import { ensureLabImages, type LabImages, makeTreeImage } from './lab-disks.js';
import { labEnvironment } from './lab-environment.js';
import { labScratch } from './lab-scratch.js';
import { Lab, type LabOptions } from './lab.js';

/** The labs of one test file: one set of images, and an end for all of them. */
export class LabRig {
  readonly #labs: Lab[] = [];

  private constructor(
    /** Goes with the rig. */
    readonly directory: string,
    private readonly images: LabImages,
    private readonly tree: string,
  ) {}

  static async open(tree = ROOT): Promise<LabRig> {
    const { cacheDir, cloudHypervisor } = labEnvironment();
    const images = await ensureLabImages(cacheDir, console.error);
    const directory = await labScratch();
    const image = join(directory, 'tree.ext4');
    await makeTreeImage(tree, image, cloudHypervisor);
    return new LabRig(directory, images, image);
  }

  /** The name is the host's, and that of its disks: to start one again, see Lab.boot. */
  async start(name: string, options: Omit<LabOptions, 'images' | 'tree' | 'directory' | 'name'> = {}): Promise<Lab> {
    const lab = await Lab.start({
      ...options,
      images: this.images,
      tree: this.tree,
      directory: join(this.directory, name),
      name,
    });
    this.#labs.push(lab);
    return lab;
  }

  async close(): Promise<void> {
    await Promise.all(this.#labs.map((lab) => lab.kill()));
    await rm(this.directory, { recursive: true, force: true });
  }
}
