// Web applications in the viewer: launching one, and finding its frame; accessibility checks.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Frame, Page } from '@playwright/test';
import { sessionOf } from './helpers.ts';
import { type Testbed, eventually } from './testbed.ts';

/** An application that is open in the viewer. */
export interface OpenApp {
  page: Page;
  frame: Frame;
  session: string;
  origin: string;
}

export const originOf = (testbed: Testbed, session: string) => `https://${session}.apps.${testbed.name}:${testbed.port}`;

/** The application's frame in the viewer, once it has loaded. */
export async function appFrame(page: Page, testbed: Testbed): Promise<OpenApp> {
  await page.waitForURL('**/viewer/*');
  const session = sessionOf(page);
  const origin = originOf(testbed, session);
  const frame = await eventually('the application is in its frame', () =>
    page.frames().find((frame) => frame.url().startsWith(`${origin}/`) && !frame.url().includes('/.portcullis/')),
  );
  return { page, frame, session, origin };
}

/** Clicks the launch or continue button of a workspace in the portal. */
export async function clickLaunch(page: Page, testbed: Testbed, id: string): Promise<void> {
  await page.goto(testbed.url);
  await page.locator(`[data-testid=launch-${id}], [data-testid=continue-${id}]`).first().click();
}

/** Launches a web application from the portal. */
export async function openApp(page: Page, testbed: Testbed, id: string): Promise<OpenApp> {
  await clickLaunch(page, testbed, id);
  return appFrame(page, testbed);
}

const AXE = readFileSync(createRequire(resolve('../../static/package.json')).resolve('axe-core/axe.min.js'), 'utf8');

/** Violations that axe finds in a page, by the same rules as for the console. */
export async function axeViolations(page: Page): Promise<string[]> {
  const rules = "['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']";
  // Frames of other origins belong to their applications.
  const found: any = await page.evaluate(`${AXE};axe.run(document,{iframes:false,runOnly:${rules}})`);
  return found.violations.map(({ id, help, nodes }: any) => `${id}: ${help} (${nodes.map((node: any) => node.html.slice(0, 140)).join(' | ')})`);
}
