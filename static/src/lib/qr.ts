/**
 * The server's QR picture as the address of an image. Inside an `<img>` an SVG can run nothing and load nothing, so
 * it needs no trust; inline it would.
 */
export function qrImage(svg: string): string {
  return `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
}
