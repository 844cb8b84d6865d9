// Web applications whose domain is another site than the gateway's, in a browser that blocks third-party storage.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, expect } from '@playwright/test';
import { openApp } from './app-frame.ts';
import { RecordingApp } from './apps.ts';
import { dismissHint, signIn, testsOn } from './helpers.ts';
import { WIDE, expectAccessible } from './looks.ts';
import { eventually } from './testbed.ts';

/** Needs storage, and reloads until it has some, as single-page applications do. */
const RELOADING = `<!doctype html><html lang="en"><title>Storage</title><h1 id="here">Loading</h1><script>
  try { localStorage.setItem('a', '1'); document.getElementById('here').textContent = 'Stored'; } catch { setTimeout(() => location.reload(), 300); }
</script></html>`;

let app: RecordingApp;

const { test, bed } = testsOn<'app'>({
  services: ['app'],
  async setUp(bed) {
    app = await RecordingApp.start(bed.ports.app, { '/': { body: RELOADING } });
    await bed.api('POST', '/api/workspaces', { id: 'ws-app', name: 'Storage', type: 'html5', target: bed.service('app'), requires_mfa: false }, 201);
  },
  async tearDown() {
    await app?.close();
  },
});

/** A browser with a profile in which third-party storage is blocked, as a user sets it in the browser's settings. */
async function strictBrowser(profile: string): Promise<BrowserContext> {
  mkdirSync(join(profile, 'Default'), { recursive: true });
  writeFileSync(join(profile, 'Default/Preferences'), JSON.stringify({ profile: { cookie_controls_mode: 1, block_third_party_cookies: true } }));
  const { launchOptions, ignoreHTTPSErrors } = test.info().project.use;
  const context = await chromium.launchPersistentContext(profile, { ...launchOptions, ignoreHTTPSErrors, viewport: WIDE, reducedMotion: 'reduce' });
  await dismissHint(context);
  return context;
}

test('an application that cannot store data in the frame is offered a tab, where it can', async () => {
  const profile = mkdtempSync(join(tmpdir(), 'pc-profile-'));
  const context = await strictBrowser(profile);
  try {
    const page = await context.newPage();
    await signIn(page, bed.testbed, bed.admin);
    await openApp(page, bed.testbed, 'ws-app');
    // Playwright's queries count as user input for some seconds, so the page is left alone for a while.
    await eventually('it has reloaded often', () => app.requests.length > 40);
    await expect(page.getByTestId('tab-hint')).toBeVisible();
    await expectAccessible(page, 'viewer-application-restless');
    const [tab] = await Promise.all([context.waitForEvent('page'), page.getByTestId('tab-hint-move').click()]);
    await expect(tab.locator('#here')).toHaveText('Stored');
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'own_tab');
    await expectAccessible(page, 'viewer-application-moved');
    // In the tab it does not reload.
    await eventually('no more requests arrive', async () => {
      const before = app.requests.length;
      await new Promise((done) => setTimeout(done, 2000));
      return app.requests.length === before;
    });
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
});
