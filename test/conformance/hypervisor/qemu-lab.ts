import { QemuHypervisor } from '../../../host-worker/drivers/qemu/qemu-hypervisor.driver.js';
import { HypervisorLab } from './hypervisor-lab.js';

/** Guests run everywhere by software emulation. */
export function openQemuLab(id: string): Promise<HypervisorLab<QemuHypervisor>> {
  return HypervisorLab.open(id, (surroundings) => QemuHypervisor.open({ ...surroundings, accel: 'tcg' }));
}
