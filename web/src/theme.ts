// Light or dark: as the system says, until somebody chooses.
import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const KEY = "ferrotunnel-theme";

export const theme = signal<Theme>(stored());
/** What is drawn now, for what CSS does not reach. */
export const dark = signal(false);

const system = matchMedia("(prefers-color-scheme: dark)");
export const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system";
  }
}

function apply(): void {
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset["theme"];
  else root.dataset["theme"] = theme.value;
  dark.value = theme.value === "dark" || (theme.value === "system" && system.matches);
}

export function setTheme(value: Theme): void {
  theme.value = value;
  try {
    if (value === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, value);
  } catch {
    // Kept until the page is closed.
  }
  apply();
}

system.addEventListener("change", apply);
apply();
