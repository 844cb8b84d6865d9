// Says how big the pages are, and fails when one has outgrown its budget: the console, and the viewer with each protocol. Compresses what is large.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const KIB = 1024;
const dist = new URL('../dist/', import.meta.url);
const STATIC = /(?:\bfrom|\bimport)\s*["'`](\.\/[^"'`]+\.js)["'`]/g;
const DYNAMIC = /\bimport\(\s*["'`](\.\/[^"'`]+\.js)["'`]/g;

const read = (file) => readFileSync(new URL(`.${file}`, dist));

/** The scripts that `files` load by themselves, themselves among them. */
function closure(files) {
  const seen = new Set();
  const visit = (file) => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, next] of read(file).toString().matchAll(STATIC)) visit(new URL(next, `file://${file}`).pathname);
  };
  for (const file of files) visit(file);
  return [...seen];
}

function scripts(page) {
  const html = readFileSync(new URL(page, dist), 'utf8');
  if (/<script(?![^>]*\bsrc=)[^>]*>/.test(html)) throw new Error(`${page} has an inline script, which the CSP forbids`);
  return closure([...html.matchAll(/(?:src|href)="(\/assets\/[^"]+\.js)"/g)].map(([, file]) => file));
}

const weigh = (files) => files.reduce((sum, file) => sum + gzipSync(read(file)).length, 0);

function tell(name, files, budget) {
  const size = weigh(files);
  console.log(`${name}: ${(size / KIB).toFixed(1)} KiB gzipped`);
  if (budget === undefined || size <= budget) return;
  console.error(`${name} is over its budget of ${budget / KIB} KiB.`);
  process.exitCode = 1;
}

const assets = readdirSync(new URL('assets/', dist)).map((name) => `/assets/${name}`);
const wasm = assets.filter((name) => name.endsWith('.wasm'));
if (wasm.length !== 1) throw new Error(`one WASM file was expected, not ${wasm.length}`);
const base = scripts('viewer.html');
const lazy = base.flatMap((file) => [...read(file).toString().matchAll(DYNAMIC)].map(([, next]) => new URL(next, `file://${file}`).pathname));
const rdp = lazy.filter((file) => file.includes('/ironrdp'));
const html5 = lazy.filter((file) => file.includes('/frame'));
const vnc = lazy.filter((file) => file.includes('/novnc'));
if (rdp.length !== 1 || vnc.length !== 1 || html5.length < 1) throw new Error(`the viewer loads ${lazy.join(', ')}`);

tell('console', scripts('index.html'));
const vncFiles = closure([...base, ...vnc]);
if (vncFiles.some((file) => read(file).includes('.wasm'))) throw new Error('what a VNC desktop loads speaks of WASM');
// noVNC is 57 of them; the keyboard of input methods and the clipboard made it 90.
tell('viewer of a VNC desktop', vncFiles, 96 * KIB);
tell('viewer of a web application', closure([...base, ...html5]), 45 * KIB);
tell('viewer of an RDP desktop, with its WASM', [...closure([...base, ...rdp]), ...wasm], 1.8 * KIB * KIB);

// Compressed here and once, not for every browser that asks: the gateway sends this file in its place (src/http/pages.rs). With --tell nothing is written.
if (!process.argv.includes('--tell')) for (const file of wasm) writeFileSync(new URL(`.${file}.gz`, dist), gzipSync(read(file), { level: 9 }));
