// Keeps the times of the browser tests from Playwright's JSON report, and lists the slowest: browser-times.mjs REPORT FOLDER.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [report, folder] = process.argv.slice(2);
const times = [];
const walk = (suite) => {
  for (const spec of suite.specs ?? []) {
    const results = spec.tests.flatMap((test) => test.results);
    times.push([results.reduce((sum, { duration }) => sum + duration, 0) / 1000, `${spec.file}: ${spec.title}`, results.at(-1)?.status ?? 'not run']);
  }
  for (const inner of suite.suites ?? []) walk(inner);
};
for (const suite of JSON.parse(readFileSync(report, 'utf8')).suites) walk(suite);
times.sort(([a], [b]) => b - a);
const stamp = new Date().toISOString().replace(/[-:]|\..*/g, '').replace('T', '-');
writeFileSync(join(folder, `browser-${stamp}.tsv`), times.map(([s, name, outcome]) => `${s.toFixed(3)}\t${name}\t${outcome}\n`).join(''));
console.log('\nslowest browser tests');
for (const [s, name] of times.slice(0, 10)) console.log(`${s.toFixed(2).padStart(8)} s  ${name}`);
