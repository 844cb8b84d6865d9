// The size of a desktop: shared by two windows, and in the pixels of a fine screen.
import { type Page, expect } from '@playwright/test';
import { dismissHint, launch, testsOn } from './helpers.ts';
import { SCREEN, waitForDesktop } from './screen.ts';
import { eventually } from './testbed.ts';

const { test, bed } = testsOn({ role: 'member' });

const A = { width: 1280, height: 720 };
const B = { width: 900, height: 650 };

const pictureSize = (page: Page) => page.locator(SCREEN).evaluate((canvas: HTMLCanvasElement) => ({ width: canvas.width, height: canvas.height }));

const expectSize = (page: Page, { width, height }: typeof A) =>
  eventually(`the desktop is ${width} x ${height}`, async () => {
    const size = await pictureSize(page);
    return size.width === width && size.height === height;
  });

/** A second window of the session that `page` shows. */
async function secondWindow(page: Page): Promise<Page> {
  const second = await page.context().newPage();
  await second.setViewportSize(B);
  await second.goto(page.url());
  await waitForDesktop(second);
  return second;
}

async function openDesktop(page: Page): Promise<void> {
  await page.setViewportSize(A);
  await launch(page, bed.testbed, 'ws-linux-desktop');
  await waitForDesktop(page);
  await expectSize(page, A);
}

test('the desktop has the size of the window somebody works in, the other one says so, and the size returns when it closes', async ({ page }) => {
  await openDesktop(page);
  const second = await secondWindow(page);
  await expectSize(page, B);
  await expect(page.getByTestId('size-note')).toBeVisible();
  await expect(second.getByTestId('size-note')).toBeHidden();

  await page.locator(SCREEN).click({ position: { x: 100, y: 300 } });
  await expectSize(page, A);
  await expect(page.getByTestId('size-note')).toBeHidden();
  await expect(second.getByTestId('size-note')).toBeVisible();
  // A window nobody works in does not ask for another size.
  await second.setViewportSize({ width: 1000, height: 600 });
  await second.setViewportSize(B);
  await second.getByTestId('size-note').click();
  await expectSize(second, B);

  await second.close();
  await expectSize(page, A);
  await expect(page.getByTestId('size-note')).toBeHidden();
});

test('a fine screen is asked for in its own pixels, by choice', async ({ page }) => {
  const context = await page.context().browser()!.newContext({ storageState: await page.context().storageState(), viewport: A, deviceScaleFactor: 2 });
  await dismissHint(context);
  const fine = await context.newPage();
  await launch(fine, bed.testbed, 'ws-linux-desktop');
  await waitForDesktop(fine);
  await expectSize(fine, A);
  await fine.getByTestId('toolbar-handle').click();
  await fine.getByTestId('toolbar-settings').click();
  await fine.getByTestId('density-sharp').check();
  await expectSize(fine, { width: 2560, height: 1440 });
  await eventually('it is shown in the window', async () => (await fine.locator(SCREEN).boundingBox())?.width === A.width);
  await fine.reload();
  await waitForDesktop(fine);
  await expectSize(fine, { width: 2560, height: 1440 });
  await fine.getByTestId('toolbar-handle').click();
  await fine.getByTestId('toolbar-settings').click();
  await fine.getByTestId('density-normal').check();
  await expectSize(fine, A);
  await context.close();
});
