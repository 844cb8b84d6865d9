// The real binary, the real browser, real desktops: one test at a time, since each has a gateway of its own.
import { readFileSync } from 'node:fs';
import { defineConfig } from '@playwright/test';

// Only a test that ../flaky.txt lists, with a reason, is run a second time when it fails.
const names = readFileSync('../flaky.txt', 'utf8')
  .split('\n')
  .filter((line) => line.trim() !== '' && !line.startsWith('#'))
  .map((line) => line.split('\t')[0]!.trim());
const flaky = names.length > 0 ? new RegExp(names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')) : undefined;

export default defineConfig({
  testDir: '.',
  testMatch: '*.spec.ts',
  outputDir: '../../test-results/e2e',
  // Waits are long: one that ends well costs nothing, and the machine may be busy.
  timeout: 900_000,
  expect: { timeout: 60_000 },
  workers: 1,
  projects: flaky ? [{ name: 'browser', grepInvert: flaky }, { name: 'flaky', grep: flaky, retries: 1 }] : [{ name: 'browser' }],
  forbidOnly: true,
  // `.ci/test` names a file for the times.
  reporter: process.env.PLAYWRIGHT_JSON_OUTPUT_NAME ? [['list'], ['json']] : [['list']],
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
