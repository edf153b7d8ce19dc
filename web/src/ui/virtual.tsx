// A list of which only what is seen is there. While one looks further down, what comes in at the top moves nothing.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

interface Props<T extends { id: string }> {
  id: string;
  label: string;
  items: T[];
  /** Of each row, in pixels. */
  height: number;
  selected: string | null;
  onSelect: (id: string) => void;
  row: (item: T) => ComponentChildren;
  rowClass: string;
}

/** Rows above and below what is seen, so that scrolling shows no holes. */
const SPARE = 8;

export function VirtualList<T extends { id: string }>({ id, label, items, height, selected, onSelect, row, rowClass }: Props<T>) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [room, setRoom] = useState(600);
  /** The row at the upper edge, and how far it is above it. */
  const anchor = useRef<{ id: string; rest: number } | null>(null);

  useEffect(() => {
    const element = box.current!;
    const sized = new ResizeObserver(() => setRoom(element.clientHeight));
    sized.observe(element);
    setRoom(element.clientHeight);
    return () => sized.disconnect();
  }, []);

  const remember = (at: number): void => {
    const index = Math.floor(at / height);
    const item = items[index];
    anchor.current = at < height / 2 || item === undefined ? null : { id: item.id, rest: at - index * height };
  };

  // The list has changed: what was at the upper edge stays there.
  useLayoutEffect(() => {
    const element = box.current!;
    const held = anchor.current;
    if (held === null) return;
    const index = items.findIndex((item) => item.id === held.id);
    if (index === -1) return;
    const wanted = index * height + held.rest;
    if (Math.abs(element.scrollTop - wanted) > 1) {
      element.scrollTop = wanted;
      setTop(element.scrollTop);
    }
  }, [items, height]);

  // What is selected is seen.
  useLayoutEffect(() => {
    const element = box.current!;
    const index = items.findIndex((item) => item.id === selected);
    if (index === -1) return;
    if (index * height < element.scrollTop) element.scrollTop = index * height;
    else if ((index + 1) * height > element.scrollTop + element.clientHeight) {
      element.scrollTop = (index + 1) * height - element.clientHeight;
    }
  }, [selected]);

  const first = Math.max(0, Math.floor(top / height) - SPARE);
  const last = Math.min(items.length, Math.ceil((top + room) / height) + SPARE);
  const visibleSelected = items.slice(first, last).some((item) => item.id === selected);
  return (
    <div
      id={id}
      ref={box}
      class="virtual"
      role="listbox"
      aria-label={label}
      tabIndex={0}
      aria-activedescendant={visibleSelected ? `row-${selected}` : undefined}
      onScroll={(event) => {
        setTop(event.currentTarget.scrollTop);
        remember(event.currentTarget.scrollTop);
      }}
    >
      <div class="virtual-space" role="presentation" style={{ height: `${items.length * height}px` }}>
        <div class="virtual-window" role="presentation" style={{ transform: `translateY(${first * height}px)` }}>
          {items.slice(first, last).map((item, offset) => (
            <div
              key={item.id}
              id={`row-${item.id}`}
              class={`row ${rowClass}`}
              role="option"
              aria-selected={item.id === selected}
              aria-setsize={items.length}
              aria-posinset={first + offset + 1}
              style={{ height: `${height}px` }}
              onClick={() => onSelect(item.id)}
            >
              {row(item)}
            </div>
          ))}
        </div>
      </div>
    </div>
  );
}
