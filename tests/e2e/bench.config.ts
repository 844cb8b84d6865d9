// What `make bench` runs of the browser: measurements, not tests.
import { defineConfig } from '@playwright/test';
import tests from './playwright.config.ts';

export default defineConfig({ ...tests, testMatch: '*.bench.ts', outputDir: '../../test-results/bench', retries: 0, reporter: [['line']] });
