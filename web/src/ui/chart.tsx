// A graph of the last minutes that moves on by itself. The newest second slides in from the right: what is drawn ends a little
// before now, so that its last point is there already.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import type { Sample } from "../api.ts";
import { ahead, samples } from "../store.ts";
import { dark, reducedMotion } from "../theme.ts";
import { clock } from "../lib/format.ts";
import { fill, peak } from "../lib/series.ts";

export interface Line {
  label: string;
  /** The name of a colour in the style sheet, without the dashes. */
  colour: string;
  area?: boolean;
  /** Upright bars, for what is rare. */
  bars?: boolean;
  value: (sample: Sample) => number | null;
  /** Seconds without a value that the line bridges. */
  bridge?: number;
}

interface ChartProps {
  title: string;
  lines: Line[];
  format: (value: number | null) => string;
  /** At the axis, where there is less room. */
  tick: (value: number | null) => string;
  /** Steps that the axis may have; powers of ten without. */
  steps?: number[];
  seconds: number;
  /** The least that the scale goes up to. */
  floor: number;
}

/** A sample comes each second; so long after its second it is here for sure. */
const LAG_SECONDS = 1.4;
const HEIGHT = 148;

export function Chart({ title, lines, format, tick, steps, seconds, floor }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [hover, setHover] = useState<number | null>(null);
  const all = samples.value;
  const data = useMemo(
    () => [all.map((sample) => sample.at / 1000), ...lines.map((line) => fill(all.map(line.value), line.bridge ?? 0))] as uPlot.AlignedData,
    [all, lines],
  );
  const latest = useRef(data);
  latest.current = data;
  /** When it was drawn last; what is new is drawn at once. */
  const drawnAt = useRef(Number.NEGATIVE_INFINITY);
  const isDark = dark.value;

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string): string => style.getPropertyValue(`--${name}`).trim();
    const font = `11px ${style.getPropertyValue("--sans").trim() || "sans-serif"}`;
    const axis: uPlot.Axis = {
      stroke: colour("muted"),
      font,
      grid: { stroke: colour("grid"), width: 1 },
      ticks: { show: false },
    };
    const chart = new uPlot(
      {
        width: element.clientWidth || 300,
        height: HEIGHT,
        padding: [8, 4, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
        scales: { x: { time: true, auto: false }, y: { auto: false } },
        axes: [
          { ...axis, grid: { show: false }, size: 24, space: 56, values: (_, ticks) => ticks.map((time) => clock(time * 1000).slice(0, seconds < 120 ? 8 : 5)) },
          { ...axis, size: 54, space: 34, values: (_, ticks) => ticks.map(tick), ...(steps === undefined ? {} : { incrs: steps }) },
        ],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.label,
            stroke: colour(line.colour),
            width: 1.5,
            points: { show: false },
            ...(line.area ? { fill: `${colour(line.colour)}26` } : {}),
            ...(line.bars ? { fill: colour(line.colour), width: 0, paths: uPlot.paths.bars!({ size: [0.9, 5] }) } : {}),
          })),
        ],
        hooks: { setCursor: [(self) => setHover(self.cursor.idx ?? null)] },
      },
      latest.current,
      element,
    );
    plot.current = chart;
    const sized = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT }));
    sized.observe(element);

    let top = 0;
    let request = 0;
    drawnAt.current = Number.NEGATIVE_INFINITY;
    const draw = (at: number): void => {
      request = requestAnimationFrame(draw);
      // 30 pictures a second look smooth here; where motion is not wanted, one.
      if (at - drawnAt.current < (reducedMotion.matches ? 1000 : 32)) return;
      drawnAt.current = at;
      const end = (Date.now() + ahead.value) / 1000 - LAG_SECONDS;
      const wanted = Math.max(floor, peak(latest.current, end - seconds) * 1.15);
      top = top === 0 || reducedMotion.matches || Math.abs(wanted - top) < wanted * 0.01 ? wanted : top + (wanted - top) * 0.15;
      chart.batch(() => {
        chart.setScale("x", { min: end - seconds, max: end });
        chart.setScale("y", { min: 0, max: top });
      });
    };
    request = requestAnimationFrame(draw);
    return () => {
      cancelAnimationFrame(request);
      sized.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [lines, seconds, floor, format, tick, steps, isDark]);

  useEffect(() => {
    plot.current?.setData(data, false);
    drawnAt.current = Number.NEGATIVE_INFINITY;
  }, [data]);

  const shown = hover !== null && hover < all.length ? all[hover]! : (all.at(-1) ?? null);
  const values = lines.map((line, index) => ({
    line,
    text: format(shown === null ? null : ((data[index + 1] as (number | null)[])[hover !== null && hover < all.length ? hover : all.length - 1] ?? null)),
  }));
  return (
    <section class="card chart">
      <header class="chart-head">
        <h3>{title}</h3>
        <span class="chart-time">{hover !== null && shown ? clock(shown.at) : "now"}</span>
        <dl class="legend">
          {values.map(({ line, text }) => (
            <div key={line.label} class={`legend-item ${line.colour}`}>
              <dt>{line.label}</dt>
              <dd>{text}</dd>
            </div>
          ))}
        </dl>
      </header>
      <div
        class="plot"
        ref={box}
        role="img"
        aria-label={`${title}: ${values.map(({ line, text }) => `${line.label} ${text}`).join(", ")}`}
      />
    </section>
  );
}
