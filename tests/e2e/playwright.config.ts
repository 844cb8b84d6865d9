// The real binary, the real browser, real desktops: one test at a time, since each has a gateway of its own.
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  testMatch: '*.spec.ts',
  outputDir: '../../test-results/e2e',
  // Waits are long: one that ends well costs nothing, and the machine may be busy.
  timeout: 900_000,
  expect: { timeout: 60_000 },
  workers: 1,
  // On a CI machine that stands still for seconds a browser may miss its moment: once more then, and the report calls it flaky.
  retries: process.env.CI ? 1 : 0,
  forbidOnly: true,
  reporter: [['list']],
  use: {
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 800 },
    actionTimeout: 60_000,
    screenshot: 'only-on-failure',
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      // The gateway's certificate is its own authority's, which also a service worker's script must come by.
      args: ['--ignore-certificate-errors', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    },
    permissions: ['clipboard-read', 'clipboard-write'],
  },
});
