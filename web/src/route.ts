// Where one is, kept in the fragment of the address: works without the program knowing of it, and "back" works.
import { signal } from "@preact/signals";

export type Route =
  | { page: "overview" }
  | { page: "requests"; id: string | null }
  | { page: "compare"; left: string; right: string }
  | { page: "sessions" }
  | { page: "principals" };

export const route = signal<Route>(parse(location.hash));

addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

export function parse(hash: string): Route {
  const [page, first, second] = hash
    .replace(/^#\/?/, "")
    .split("/")
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part;
      }
    });
  switch (page) {
    case "requests":
      return { page, id: first === undefined || first === "" ? null : first };
    case "compare":
      return first && second ? { page, left: first, right: second } : { page: "requests", id: null };
    case "sessions":
    case "principals":
      return { page };
    default:
      return { page: "overview" };
  }
}

export const requestHref = (id: string): string => `#/requests/${encodeURIComponent(id)}`;
export const compareHref = (left: string, right: string): string =>
  `#/compare/${encodeURIComponent(left)}/${encodeURIComponent(right)}`;

/** Without an entry in the history where one only moves along a list. */
export function go(href: string, how: "push" | "replace" = "push"): void {
  if (how === "push") {
    location.hash = href;
  } else {
    history.replaceState(null, "", href);
    route.value = parse(href);
  }
}
