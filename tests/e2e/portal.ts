// A person at the portal with web applications: opens one, and finds it in its frame.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Frame, Page } from '@playwright/test';
import { type House, until } from './house.ts';

/** An application that is shown. */
export interface Shown {
  page: Page;
  frame: Frame;
  session: string;
  origin: string;
}

export const originOf = (house: House, session: string) => `https://${session}.apps.${house.name}:${house.port}`;

/** The application's frame in the viewer, once it is there. */
export async function framed(page: Page, house: House): Promise<Shown> {
  await page.waitForURL('**/viewer/*');
  const session = page.url().split('/').at(-1)!;
  const origin = originOf(house, session);
  const frame = await until('the application is in its frame', () => page.frames().find((frame) => frame.url().startsWith(`${origin}/`) && !frame.url().includes('/.portcullis/')));
  return { page, frame, session, origin };
}

/** Presses what opens a workspace in the portal; one that is open already is gone on with. */
export async function press(page: Page, house: House, id: string): Promise<void> {
  await page.goto(house.url);
  await page.locator(`[data-testid=launch-${id}], [data-testid=continue-${id}]`).first().click();
}

/** Opens a workspace from the portal. */
export async function open(page: Page, house: House, id: string): Promise<Shown> {
  await press(page, house, id);
  return framed(page, house);
}

const AXE = readFileSync(createRequire(resolve('../../static/package.json')).resolve('axe-core/axe.min.js'), 'utf8');

/** What the checker of accessibility says against a page, by the rules that the console is held to. */
export async function complaints(page: Page): Promise<string[]> {
  const rules = "['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']";
  // Frames of other origins are their own applications' matter.
  const found: any = await page.evaluate(`${AXE};axe.run(document,{iframes:false,runOnly:${rules}})`);
  return found.violations.map(({ id, help, nodes }: any) => `${id}: ${help} (${nodes.map((node: any) => node.html.slice(0, 140)).join(' | ')})`);
}
