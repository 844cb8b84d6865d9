/** Light, dark, or the system setting. `theme-boot.js` applies the same choice before the first paint. */
export type Theme = 'system' | 'light' | 'dark';
const KEY = 'portcullis.theme';

function read(): Theme {
  const { theme } = document.documentElement.dataset;
  return theme === 'light' || theme === 'dark' ? theme : 'system';
}

class ThemeChoice {
  value = $state<Theme>(read());

  set(theme: Theme): void {
    this.value = theme;
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      if (theme === 'system') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // Without storage the choice lasts until the page is closed.
    }
  }
}

export const themeChoice = new ThemeChoice();
