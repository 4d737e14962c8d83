import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../support/root.js';
import { ensureLabImages, type LabImages, makeTreeImage } from './lab-disks.js';
import { labEnvironment } from './lab-environment.js';
import { labScratch } from './lab-scratch.js';
import { Lab, type LabOptions } from './lab.js';

export interface LabRigOptions {
  /** The working tree to take in, with its dist/ if it is built. This one by default. */
  tree?: string;
  /** Kept; by default there is one that goes with the rig. */
  directory?: string;
}

/** Labs that belong together: one set of images, and an end for all of them. */
export class LabRig {
  readonly #labs: Lab[] = [];

  private constructor(
    /** Of the images made for these labs; each lab has a folder of its name in it. */
    readonly directory: string,
    private readonly isKept: boolean,
    private readonly images: LabImages,
    private readonly tree: string,
  ) {}

  static async open({ tree = ROOT, directory: kept }: LabRigOptions = {}): Promise<LabRig> {
    const { cacheDir, cloudHypervisor } = labEnvironment();
    const images = await ensureLabImages(cacheDir, console.error);
    const directory = kept ?? (await labScratch());
    await mkdir(directory, { recursive: true });
    const image = join(directory, 'tree.ext4');
    await makeTreeImage(tree, image, cloudHypervisor);
    return new LabRig(directory, kept !== undefined, images, image);
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
    if (!this.isKept) await rm(this.directory, { recursive: true, force: true });
  }
}
