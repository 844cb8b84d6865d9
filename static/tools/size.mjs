// Says how big the pages are, and fails when the viewer has outgrown its budget.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const VIEWER_BUDGET = 90 * 1024;
const dist = new URL('../dist/', import.meta.url);

function scripts(page) {
  const html = readFileSync(new URL(page, dist), 'utf8');
  if (/<script(?![^>]*\bsrc=)[^>]*>/.test(html)) throw new Error(`${page} has an inline script, which the CSP forbids`);
  const seen = new Set();
  const visit = (file) => {
    if (seen.has(file)) return;
    seen.add(file);
    const code = readFileSync(new URL(`.${file}`, dist), 'utf8');
    for (const [, next] of code.matchAll(/(?:from|import)\s*\(?["'`](\.\/[^"'`]+\.js)["'`]/g)) visit(new URL(next, `file://${file}`).pathname);
  };
  for (const [, file] of html.matchAll(/(?:src|href)="(\/assets\/[^"]+\.js)"/g)) visit(file);
  return [...seen];
}

const weigh = (files) => files.reduce((sum, file) => sum + gzipSync(readFileSync(new URL(`.${file}`, dist))).length, 0);

for (const page of ['index.html', 'viewer.html']) {
  const size = weigh(scripts(page));
  console.log(`${page}: ${(size / 1024).toFixed(1)} KiB of script, gzipped`);
  if (page === 'viewer.html' && size > VIEWER_BUDGET) {
    console.error(`The viewer's script is over its budget of ${VIEWER_BUDGET / 1024} KiB.`);
    process.exitCode = 1;
  }
}
