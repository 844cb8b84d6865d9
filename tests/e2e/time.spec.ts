// How long a session lasts: the countdown above a real desktop, an extension that interrupts nothing, and the end for want of input.
import { type Page, expect } from '@playwright/test';
import { launch, screenshot, testsOn } from './helpers.ts';
import { waitForDesktop } from './screen.ts';
import { eventually } from './testbed.ts';

const { test, bed } = testsOn({ role: 'member' });

const limits = (session_limits: object) => bed.api('PATCH', '/api/workspaces/ws-linux-desktop', { session_limits }, 200);
const session = async (id: string) => (await bed.api('GET', '/api/admin/sessions', undefined, 200)).find((one: { id: string }) => one.id === id);

async function end(page: Page): Promise<void> {
  await page.getByTestId('toolbar-handle').hover();
  await page.getByTestId('toolbar-disconnect').click();
  await page.getByTestId('confirm-disconnect').click();
  await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'user_disconnected');
}

test('the end is counted down with the toolbar closed, and an extension interrupts nothing', async ({ page }) => {
  await limits({ duration_seconds: 540, extension_seconds: 3600, idle_timeout_seconds: 0 });
  const id = await launch(page, bed.testbed, 'ws-linux-desktop');
  await waitForDesktop(page);
  await expect(page.getByTestId('time-left')).toBeVisible();
  await expect(page.getByTestId('toolbar')).toHaveAttribute('data-open', 'false');
  await expect(page.getByTestId('time-left-clock')).toHaveText(/^Ends in [78]:\d\d$/);
  await expect(page.getByTestId('time-left-live')).toContainText('This session ends in');
  await expect(page).toHaveTitle(/^[89] min left · /);
  await screenshot(page, 'time-left');
  const before = await session(id);
  // Every state that the page takes from here on.
  await page.evaluate(() => {
    const root = document.getElementById('viewer')!;
    const states: string[] = [];
    Object.assign(window, { states });
    new MutationObserver(() => states.push(root.dataset.state ?? '')).observe(root, { attributeFilter: ['data-state'] });
  });
  await page.getByTestId('time-left-extend').click();
  await expect(page.getByTestId('time-left')).toBeHidden();
  await expect(page.getByTestId('time-left-live')).toContainText('It now ends at');
  await expect(page).not.toHaveTitle(/min left/);
  const after = await session(id);
  expect(Date.parse(after.expires_at) - Date.parse(before.expires_at)).toBe(30 * 60_000);
  expect(after.viewers).toBe(1);
  expect(await page.evaluate(() => (window as unknown as { states: string[] }).states), 'the stream went on').toEqual([]);
  const entries = await bed.auditEntries(`session_id=${id}`);
  expect(entries.filter(({ action }) => action === 'open_stream')).toHaveLength(1);
  expect(entries.some(({ action, outcome }) => action === 'extend_session' && outcome === 'success')).toBe(true);
  await end(page);
});

test('a session that nobody uses says so, stays by a key, and ends without one', async ({ page }) => {
  await limits({ duration_seconds: null, extension_seconds: null, idle_timeout_seconds: 60 });
  const id = await launch(page, bed.testbed, 'ws-linux-desktop');
  await waitForDesktop(page);
  await expect(page.getByTestId('time-left')).toHaveAttribute('data-kind', 'idle', { timeout: 60_000 });
  await expect(page.getByTestId('time-left')).toBeVisible();
  await screenshot(page, 'idle');
  const endsAt = Date.parse((await session(id)).idle_ends_at);
  await page.keyboard.press('Shift');
  await eventually('the key moved the end', async () => Date.parse((await session(id)).idle_ends_at) > endsAt);
  await expect(page.getByTestId('time-left')).toBeHidden();
  await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'idle_timeout', { timeout: 120_000 });
  await screenshot(page, 'ended-idle');
  expect((await bed.auditEntries(`session_id=${id}`)).some(({ action, reason }) => action === 'end_idle_session' && reason === 'idle_timeout')).toBe(true);
});
