/**
 * The SVG of a QR code as a data URL. In an `<img>` an SVG cannot run scripts or load resources.
 */
export function qrImage(svg: string): string {
  return `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
}
