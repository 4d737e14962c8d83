import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { PROJECT_ROOT } from '../../project-root.js';
import { MODULES } from '../kernel-facts.js';
import { parseSetting, readSettings } from './environment-file.js';
import { currentLink, type Destination, enabledUnits, installedFiles, ROLES, unitsOf } from './installed-files.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'install-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const to = (over: Partial<Destination> = {}): Destination => ({
  role: 'all',
  prefix: '/opt/torpor',
  root,
  settings: {},
  ...over,
});
const install = (destination: Destination) => installedFiles(destination).forEach((file) => file.write());
const found = (destination: Destination) => new Set(installedFiles(destination).map((file) => file.find()));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const settings = (name: string) => readSettings(read(`/etc/torpor/${name}.env`));

describe('the files of an installation', () => {
  it.each(ROLES)('are all new at first and all there afterwards, as a %s', (role) => {
    expect(found(to({ role }))).toEqual(new Set(['new']));
    install(to({ role }));
    expect(found(to({ role }))).toEqual(new Set(['there']));
    expect(readdirSync(join(root, 'etc/systemd/system')).sort()).toEqual(unitsOf(role).toSorted());
  });

  it('leave out what another role needs', () => {
    install(to({ role: 'control' }));
    expect(existsSync(join(root, 'etc/modules-load.d'))).toBe(false);
    expect(existsSync(join(root, 'etc/torpor/host.env'))).toBe(false);
  });

  it('name the prefix everywhere', () => {
    install(to({ prefix: '/srv/t' }));
    for (const unit of unitsOf('all')) expect(read(`/etc/systemd/system/${unit}`)).not.toContain('/opt/torpor');
    expect(read('/etc/systemd/system/torpor-host-worker.service')).toContain('ExecStart=/srv/t/bin/node');
    expect(readlinkSync(join(root, 'srv/t/bin/node'))).toBe(process.execPath);
    expect(read('/usr/local/bin/torpor')).toContain('exec /srv/t/bin/node');
  });

  it('keep secrets from other users, and make those that nobody should have to think of', () => {
    install(to());
    for (const name of ['control-plane', 'host'])
      expect(lstatSync(join(root, `etc/torpor/${name}.env`)).mode & 0o777).toBe(0o600);
    const made = settings('control-plane');
    expect(made['TORPOR_BOOTSTRAP_API_KEY']).toMatch(/^tpr_[0-9a-f]{40}$/);
    expect(made['TORPOR_REGISTRATION_TOKEN']).toMatch(/^\S{32}$/);
    expect(settings('host')['TORPOR_REGISTRATION_TOKEN']).toBe(made['TORPOR_REGISTRATION_TOKEN']);
  });

  it('keep the values of an operator, but for those that are asked for', () => {
    install(to());
    const before = settings('control-plane');
    writeFileSync(
      join(root, 'etc/torpor/control-plane.env'),
      `${read('/etc/torpor/control-plane.env')}# mine\nLOG_LEVEL=debug\n`,
    );
    install(to({ settings: { DATABASE_URL: 'postgres://u:p$1@db/t', TORPOR_TX_MBPS: '200' } }));
    expect(settings('control-plane')).toEqual({
      ...before,
      LOG_LEVEL: 'debug',
      DATABASE_URL: 'postgres://u:p$1@db/t',
      TORPOR_TX_MBPS: '200',
    });
    expect(read('/etc/torpor/control-plane.env')).toContain('# mine');
    expect(settings('host')['DATABASE_URL']).toBeUndefined();
  });

  it('become current by one link, which another release takes over', () => {
    currentLink(to()).write();
    expect(readlinkSync(join(root, 'opt/torpor/current'))).toBe(PROJECT_ROOT);
    expect(currentLink(to()).find()).toBe('there');
  });

  it('load the modules that doctor looks for', () => {
    install(to({ role: 'host' }));
    const loaded = read('/etc/modules-load.d/torpor.conf').split('\n');
    for (const name of MODULES) expect(loaded).toContain(name);
  });
});

describe('the units', () => {
  it('are all started with the machine, but for the slice', () => {
    expect(enabledUnits('all')).toEqual(unitsOf('all').filter((unit) => unit !== 'torpor-vms.slice'));
    for (const unit of enabledUnits('all'))
      expect(readFileSync(join(PROJECT_ROOT, 'cli/systemd', unit), 'utf8')).toContain('WantedBy=multi-user.target');
  });

  it('give the host worker no view of its own of the file system, in which namespaces would be lost', () => {
    const unit = readFileSync(join(PROJECT_ROOT, 'cli/systemd/torpor-host-worker.service'), 'utf8');
    const options = [...unit.matchAll(/^(\w+)=/gm)].map(([, name]) => name ?? '');
    expect(
      options.filter((name) =>
        /^(Protect|Private|ReadOnly|ReadWrite|Inaccessible|Bind|Temporary|Root|DynamicUser|Mount)/.test(name),
      ),
    ).toEqual([]);
  });
});

describe('a setting of the command line', () => {
  it.each(['A_B=', 'A=b=c', 'DATABASE_URL=postgres://u:p%40@h:5432/d'])('may be %s', (text) => {
    expect(parseSetting(text).join('=')).toBe(text);
  });

  it.each(['a=b', 'A', '=x', 'A="x"', 'A=b\\c', 'A=b\nC=d'])('may not be %j', (text) => {
    expect(() => parseSetting(text)).toThrow(/--set/);
  });
});
