// Just enough of RDCleanPath to look at a real RDP desktop in the pages without a gateway: no checks, no credentials.
import { connect as tcp } from 'node:net';
import { connect as tls } from 'node:tls';

const der = (tag, content) => {
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
};
const VERSION = der(0xa0, der(0x02, Buffer.from([0x0d, 0x3e])));

function elements(buffer) {
  const found = {};
  for (let at = 0; at < buffer.length; ) {
    const tag = buffer[at];
    let length = buffer[at + 1];
    let head = 2;
    if (length & 128) {
      head += length & 127;
      length = [...buffer.subarray(at + 2, at + head)].reduce((sum, byte) => sum * 256 + byte, 0);
    }
    found[tag] = buffer.subarray(at + head, at + head + length);
    at += head + length;
  }
  return found;
}

/** Refuses as a gateway does: in RDCleanPath's words, then by the close frame. */
export function refuseRdp(browser, code, reason) {
  browser.once('message', () => {
    const error = der(0x30, Buffer.concat([der(0xa0, der(0x02, Buffer.from([1]))), der(0xa1, der(0x02, Buffer.from([0x01, 0x93])))]));
    browser.send(der(0x30, Buffer.concat([VERSION, der(0xa1, error)])));
    browser.close(code, reason);
  });
}

/** Joins a browser's WebSocket to the RDP server at `port`. */
export function relayRdp(browser, port) {
  browser.once('message', (first) => {
    const fields = elements(elements(first)[0x30]);
    const request = elements(fields[0xa6])[0x04];
    const raw = tcp(port, '127.0.0.1', () => raw.write(request));
    raw.on('error', () => browser.close(4002));
    raw.once('data', (confirm) => {
      const secure = tls({ socket: raw, rejectUnauthorized: false }, () => {
        const certificate = secure.getPeerCertificate(true).raw;
        const answer = Buffer.concat([VERSION, der(0xa6, der(0x04, confirm)), der(0xa7, der(0x30, der(0x04, certificate))), der(0xa9, der(0x0c, Buffer.from('127.0.0.1')))]);
        browser.send(der(0x30, answer));
        secure.on('data', (data) => browser.readyState === 1 && browser.send(data));
        browser.on('message', (data) => secure.write(data));
      });
      secure.on('error', () => browser.close(4002));
      secure.on('close', () => browser.close(4002));
      browser.on('close', () => secure.destroy());
    });
  });
}
