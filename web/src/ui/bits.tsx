// Small things that every page is made of.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { age } from "../lib/format.ts";
import { copy } from "../notices.ts";
import { Icon, type IconName } from "./icon.tsx";

interface ButtonProps {
  icon?: IconName;
  label: string;
  /** Only the drawing is shown; the label is read out and shown on hover. */
  bare?: boolean;
  kind?: "plain" | "main" | "danger" | "quiet";
  disabled?: boolean;
  pressed?: boolean;
  onClick: (event: MouseEvent) => void;
}

export function Button({ icon, label, bare, kind = "plain", disabled, pressed, onClick }: ButtonProps) {
  return (
    <button
      type="button"
      class={`button ${kind}${bare ? " bare" : ""}`}
      disabled={disabled ?? false}
      onClick={onClick}
      {...(bare ? { "aria-label": label, title: label } : {})}
      {...(pressed === undefined ? {} : { "aria-pressed": pressed })}
    >
      {icon && <Icon name={icon} />}
      {!bare && <span>{label}</span>}
    </button>
  );
}

export function CopyButton({ text, what }: { text: string; what: string }) {
  return <Button icon="copy" label={`Copy ${what}`} bare kind="quiet" onClick={() => void copy(text, what)} />;
}

export type Tone = "ok" | "warn" | "bad" | "info" | "idle";

export function State({ tone, text }: { tone: Tone; text: string }) {
  return (
    <span class={`state ${tone}`}>
      <span class="dot" aria-hidden="true" />
      {text}
    </span>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h3>{title}</h3>
      {children}
    </div>
  );
}

export function Stat({ label, value, title }: { label: string; value: ComponentChildren; title?: string }) {
  return (
    <div class="stat" {...(title === undefined ? {} : { title })}>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
}

/** The browser's own dialog: it keeps the focus inside, and closes by escape. */
export function Dialog({ title, onClose, children, wide }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class={wide ? "dialog wide" : "dialog"}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === ref.current) onClose();
      }}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 id={id}>{title}</h2>
          <Button icon="close" label="Close" bare kind="quiet" onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

export interface MenuItem {
  label: string;
  danger?: boolean;
  disabled?: boolean;
  href?: string;
  download?: string;
  run?: () => void;
}

export function Menu({ label, icon = "more", text, items }: { label: string; icon?: IconName; text?: string; items: MenuItem[] }) {
  const [open, setOpen] = useState(false);
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    ref.current?.querySelector<HTMLElement>('[role="menuitem"]')?.focus();
    const outside = (event: PointerEvent): void => {
      if (!ref.current?.contains(event.target as Node)) setOpen(false);
    };
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, [open]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (!open) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      setOpen(false);
      ref.current?.querySelector("button")?.focus();
    }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const all = [...(ref.current?.querySelectorAll<HTMLElement>('[role="menuitem"]') ?? [])];
      const at = all.indexOf(document.activeElement as HTMLElement);
      all.at((at + (event.key === "ArrowDown" ? 1 : -1)) % all.length)?.focus();
    }
  };
  return (
    <div class="menu" ref={ref} onKeyDown={onKeyDown}>
      <button
        type="button"
        class={text === undefined ? "button quiet bare" : "button plain"}
        aria-haspopup="menu"
        aria-expanded={open}
        {...(text === undefined ? { "aria-label": label, title: label } : {})}
        onClick={() => setOpen(!open)}
      >
        <Icon name={icon} />
        {text !== undefined && <span>{text}</span>}
      </button>
      {open && (
        <div class="menu-list" role="menu" aria-label={label}>
          {items.map((item) =>
            item.href === undefined ? (
              <button
                key={item.label}
                type="button"
                role="menuitem"
                class={item.danger ? "danger" : ""}
                disabled={item.disabled ?? false}
                onClick={() => {
                  setOpen(false);
                  item.run?.();
                }}
              >
                {item.label}
              </button>
            ) : (
              <a key={item.label} role="menuitem" href={item.href} download={item.download ?? ""} onClick={() => setOpen(false)}>
                {item.label}
              </a>
            ),
          )}
        </div>
      )}
    </div>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  value: T;
  options: readonly (readonly [value: T, text: string])[];
  onChange: (value: T) => void;
}

/** One of a few, all of them in sight. */
export function Choice<T extends string>({ label, value, options, onChange }: ChoiceProps<T>) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map(([option, text]) => (
        <button key={option} type="button" aria-pressed={option === value} onClick={() => onChange(option)}>
          {text}
        </button>
      ))}
    </div>
  );
}

/** True while the screen is at least so wide. */
export function useWide(pixels: number): boolean {
  const query = `(min-width: ${pixels}px)`;
  const [wide, setWide] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const change = (): void => setWide(list.matches);
    change();
    list.addEventListener("change", change);
    return () => list.removeEventListener("change", change);
  }, [query]);
  return wide;
}

/** How long ago something was, going on by itself. */
export function Uptime({ since }: { since: number }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  return <>{age((Date.now() - since) / 1000)}</>;
}
