/**
 * The npm file of IronRDP holds its WASM as base64 text inside the script. This takes it out into a file of its own:
 * a third smaller, compiled while it loads, and no `data:` in the Content-Security-Policy. It also lets the page see
 * the WebSocket that the component opens, whose close code says why a stream ended.
 *
 * Each edit must match exactly once; another version of the package that looks different fails the build.
 */
import type { Plugin } from 'vite';

const MODULE = '@devolutions/iron-remote-desktop-rdp/';
const WASM = /"data:application\/wasm;base64,([A-Za-z0-9+/=]+)"/g;
const SOCKET = /\bnew WebSocket\(/g;
/** Where `npm run dev` serves the file. */
const DEV_PATH = '/@ironrdp.wasm';

export function only(code: string, pattern: RegExp): RegExpMatchArray {
  const found = [...code.matchAll(pattern)];
  if (found.length !== 1) throw new Error(`iron-remote-desktop-rdp: ${pattern.source} matches ${found.length} times, not once: look at the new version`);
  return found[0] as RegExpMatchArray;
}

/** The script without its WASM, which is given back as bytes. `address` is an expression, `sockets` the module that opens sockets. */
export function split(code: string, address: (wasm: Buffer) => string, sockets: string): string {
  const [text, base64] = only(code, WASM);
  const [opening] = only(code, SOCKET);
  const wasm = Buffer.from(base64 as string, 'base64');
  if (wasm.readUInt32BE(0) !== 0x0061736d) throw new Error('iron-remote-desktop-rdp: what it holds is no WASM');
  return `import { openSocket } from ${JSON.stringify(sockets)};\n${code.replace(text, () => address(wasm)).replace(opening, 'openSocket(')}`;
}

export function splitWasm(sockets: string): Plugin {
  let building = false;
  let served: Buffer | null = null;
  return {
    name: 'portcullis-split-wasm',
    enforce: 'pre',
    configResolved: ({ command }) => {
      building = command === 'build';
    },
    configureServer(server) {
      server.middlewares.use(DEV_PATH, (_request, response) => {
        response.setHeader('Content-Type', 'application/wasm');
        response.end(served);
      });
    },
    transform(code, id) {
      if (!id.includes(MODULE) || !id.endsWith('.js')) return null;
      const address = (wasm: Buffer) => {
        served = wasm;
        if (!building) return JSON.stringify(DEV_PATH);
        return `import.meta.ROLLUP_FILE_URL_${this.emitFile({ type: 'asset', name: 'ironrdp.wasm', source: wasm })}`;
      };
      return { code: split(code, address, sockets), map: null };
    },
  };
}
