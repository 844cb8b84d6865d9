// Screenshots of a page in two sizes and two colour schemes, each checked for accessibility.
import { type Page, expect } from '@playwright/test';
import { axeViolations } from './app-frame.ts';
import { screenshot } from './helpers.ts';

export const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

/** Takes the four screenshots, and expects no violation in any of them. */
export async function expectAccessible(page: Page, name: string): Promise<void> {
  for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      await screenshot(page, `${name}-${size}-${colorScheme}`);
      expect(await axeViolations(page), `${name}, ${size}, ${colorScheme}`).toEqual([]);
    }
  }
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: 'light' });
}
