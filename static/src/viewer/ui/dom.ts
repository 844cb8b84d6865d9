/** DOM helpers of the viewer. */
type Child = Node | string | null | undefined;
type Props = Record<string, string | boolean | ((event: never) => void) | undefined>;

export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === 'function') element.addEventListener(name, value as EventListener);
    else if (typeof value === 'string') element.setAttribute(name, value);
    else if (value) element.setAttribute(name, '');
  }
  element.append(...children.filter((child): child is Node | string => child != null));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** Line icons on a 20 px grid, drawn for this viewer. */
const PATHS = {
  clipboard: 'M7 4H5.500A1.500 1.500 0 0 0 4 5.500v10A1.500 1.500 0 0 0 5.500 17h9a1.500 1.500 0 0 0 1.500-1.500v-10A1.500 1.500 0 0 0 14.500 4H13M7 3h6v3H7z',
  fit: 'M3.500 5h13v10h-13zM7 8h6v4H7z',
  remote: 'M3.500 5h13v10h-13zM6.500 10V8h2M13.500 10v2h-2',
  actual: 'M9 4a5 5 0 1 1 0 10a5 5 0 0 1 0-10M12.700 12.700L16.500 16.500M9 6.800v4.400M6.800 9h4.400',
  full: 'M4 8V4h4M12 4h4v4M16 12v4h-4M8 16H4v-4',
  keys: 'M2.500 5.500h15v9h-15zM5.500 8.500h.01M8.500 8.500h.01M11.500 8.500h.01M14.500 8.500h.01M6.500 11.500h7',
  tab: 'M8 4H4.500v11.500H16V12M11 4h5v5M16 4L9.500 10.500',
  grid: 'M4 4h5v5H4zM11 4h5v5h-5zM4 11h5v5H4zM11 11h5v5h-5z',
  out: 'M10 3v7M6 5.200a6 6 0 1 0 8 0',
  down: 'M6 8.500l4 3.500 4-3.500',
  up: 'M6 11.500L10 8l4 3.500',
  ended: 'M10 3v7M6 5.200a6 6 0 1 0 8 0',
  lost: 'M3 8.500a10 10 0 0 1 14 0M5.500 11.500a6.300 6.300 0 0 1 9 0M8.200 14.300a2.600 2.600 0 0 1 3.600 0M4 4l12 13',
  settings: 'M3 6h8M15 6h2M3 14h2M9 14h8M13 4v4M7 12v4',
  key: 'M7 7a3.500 3.500 0 1 1 0 7a3.500 3.500 0 0 1 0-7M9.600 9L16.500 3.500M14 5.500l2 2M5.900 11.500h.01',
  shield: 'M10 2.800l6 2.200v4.500c0 3.700-2.400 6.300-6 7.700c-3.600-1.400-6-4-6-7.700V5zM10 7v3.500M10 13.200h.01',
  touch: 'M2.500 4.500h15v8h-15zM5.500 7.200h.01M8.500 7.200h.01M11.500 7.200h.01M14.500 7.200h.01M7 9.800h6M8 15.500l2 2 2-2',
} as const;
export type IconName = keyof typeof PATHS;

export function icon(name: IconName, size = 20): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  for (const [key, value] of Object.entries({ viewBox: '0 0 20 20', width: size, height: size, fill: 'none', stroke: 'currentColor', 'stroke-width': 1.5, 'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'aria-hidden': 'true' }))
    svg.setAttribute(key, String(value));
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

/** Reads or writes a setting in local storage, if there is one. */
export function remembered(key: string, value?: string): string | null {
  try {
    if (value !== undefined) localStorage.setItem(`portcullis.viewer.${key}`, value);
    return localStorage.getItem(`portcullis.viewer.${key}`);
  } catch {
    return null;
  }
}
