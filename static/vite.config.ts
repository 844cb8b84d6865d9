/// <reference types="vitest/config" />
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { svelteTesting } from '@testing-library/svelte/vite';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';
import { splitWasm } from './tools/split-wasm.ts';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * The theme has to be known before the first paint, and the CSP allows no inline script: so a classic (blocking)
 * script of a few lines is put in the head of both pages, hashed like every other asset.
 */
function themeScript(): Plugin {
  const code = readFileSync(here('./src/theme-boot.js'), 'utf8')
    .replace(/^\s*(\/\*[\s\S]*?\*\/|\/\/.*)\s*$/gm, '')
    .trim();
  const file = `assets/theme-${createHash('sha256').update(code).digest('base64url').slice(0, 8)}.js`;
  return {
    name: 'portcullis-theme',
    configureServer(server) {
      server.middlewares.use(`/${file}`, (_req, res) => {
        res.setHeader('Content-Type', 'text/javascript');
        res.end(code);
      });
    },
    generateBundle() {
      this.emitFile({ type: 'asset', fileName: file, source: code });
    },
    // The viewer is always dark, so only the console needs it.
    transformIndexHtml: (_html, page) =>
      page.path.endsWith('viewer.html') ? [] : [{ tag: 'script', attrs: { src: `/${file}` }, injectTo: 'head-prepend' }],
  };
}

export default defineConfig({
  plugins: [svelte(), themeScript(), splitWasm(here('./src/viewer/rdp/socket.ts')), svelteTesting({ autoCleanup: false })],
  // Its own file must reach the plugin as it was published.
  optimizeDeps: { exclude: ['@devolutions/iron-remote-desktop-rdp'] },
  build: {
    outDir: 'dist',
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: { console: here('./index.html'), viewer: here('./viewer.html') } },
  },
  server: {
    // `npm run dev` against a running gateway: PORTCULLIS_DEV_API=https://localhost:8443 npm run dev
    proxy: process.env.PORTCULLIS_DEV_API
      ? { '/api': { target: process.env.PORTCULLIS_DEV_API, secure: false, ws: true, changeOrigin: true } }
      : undefined,
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
