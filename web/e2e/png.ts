// Pictures as PNG: reading those of the browser, and writing them with a palette, which takes a third of the bytes. No other
// kind of PNG is known here.
import { crc32, deflateSync, inflateSync } from "node:zlib";

export interface Picture {
  width: number;
  height: number;
  /** Three bytes for each pixel, row by row. */
  rgb: Uint8Array;
}

const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);

/** Eight bits for each of three or four channels, not interlaced; what lies behind a picture is white. */
export function decode(png: Buffer): Picture {
  if (!png.subarray(0, 8).equals(SIGNATURE)) throw new Error("no PNG");
  const parts: Buffer[] = [];
  let width = 0;
  let height = 0;
  let channels = 0;
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const type = png.toString("latin1", at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") {
      width = data.readUInt32BE(0);
      height = data.readUInt32BE(4);
      channels = data[9] === 2 ? 3 : data[9] === 6 ? 4 : 0;
      if (data[8] !== 8 || channels === 0 || data[12] !== 0) throw new Error("a kind of PNG that no browser writes");
    }
    if (type === "IDAT") parts.push(data);
    at += length + 12;
  }
  const raw = inflateSync(Buffer.concat(parts));
  const stride = width * channels;
  const rgb = new Uint8Array(width * height * 3);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1);
    const row = new Uint8Array(raw.subarray(start + 1, start + 1 + stride));
    unfilter(raw[start]!, row, above, channels);
    for (let x = 0; x < width; x += 1) {
      const alpha = channels === 4 ? row[x * channels + 3]! / 255 : 1;
      for (let c = 0; c < 3; c += 1) rgb[(y * width + x) * 3 + c] = Math.round(row[x * channels + c]! * alpha + 255 * (1 - alpha));
    }
    above = row;
  }
  return { width, height, rgb };
}

function unfilter(kind: number, row: Uint8Array, above: Uint8Array, channels: number): void {
  for (let x = 0; x < row.length; x += 1) {
    const a = x < channels ? 0 : row[x - channels]!;
    const b = above[x]!;
    const c = x < channels ? 0 : above[x - channels]!;
    const guess = kind === 1 ? a : kind === 2 ? b : kind === 3 ? (a + b) >> 1 : kind === 4 ? paeth(a, b, c) : 0;
    row[x] = row[x]! + guess;
  }
}

function paeth(a: number, b: number, c: number): number {
  const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/** With 256 colours at most: those that are there, or where there are more, those that are nearest to them. */
export function encode({ width, height, rgb }: Picture): Buffer {
  const counts = new Map<number, number>();
  for (let at = 0; at < rgb.length; at += 3) {
    const color = (rgb[at]! << 16) | (rgb[at + 1]! << 8) | rgb[at + 2]!;
    counts.set(color, (counts.get(color) ?? 0) + 1);
  }
  const palette = counts.size <= MOST ? [...counts.keys()] : boxes(counts).map(middle);
  const index = new Map([...counts.keys()].map((color) => [color, nearest(palette, color)]));
  const raw = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = (y * width + x) * 3;
      raw[y * (width + 1) + 1 + x] = index.get((rgb[at]! << 16) | (rgb[at + 1]! << 8) | rgb[at + 2]!)!;
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8);
  return Buffer.concat([
    SIGNATURE,
    chunk("IHDR", header),
    chunk("PLTE", Buffer.from(palette.flatMap(channelsOf))),
    chunk("IDAT", deflateSync(raw, { level: 9, memLevel: 9 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

/** The same picture in fewer bytes. */
export function shrunk(png: Buffer): Buffer {
  return encode(decode(png));
}

type Box = [color: number, weight: number][];

/** Median cut: the box that is widest and weighs most is cut until there are enough. */
function boxes(counts: Map<number, number>): Box[] {
  // By its root: a few pixels of a colour that nothing else has are seen, too.
  const all: Box[] = [[...counts].map(([color, count]) => [color, Math.sqrt(count)])];
  while (all.length < MOST) {
    const scored = all.map((box, at) => ({ at, ...widest(box) })).filter(({ width }) => width > 0);
    if (scored.length === 0) break;
    const { at, channel } = scored.reduce((best, one) => (one.width * weight(all[one.at]!) > best.width * weight(all[best.at]!) ? one : best));
    const box = all[at]!.sort(([a], [b]) => channelsOf(a)[channel]! - channelsOf(b)[channel]!);
    const half = weight(box) / 2;
    let seen = 0;
    const cut = box.findIndex(([, one]) => (seen += one) >= half);
    const where = Math.min(Math.max(cut, 1), box.length - 1);
    all.splice(at, 1, box.slice(0, where), box.slice(where));
  }
  return all;
}

function widest(box: Box): { channel: number; width: number } {
  const widths = [0, 1, 2].map((channel) => {
    let [least, most] = [255, 0];
    for (const [color] of box) {
      const value = channelsOf(color)[channel]!;
      least = Math.min(least, value);
      most = Math.max(most, value);
    }
    return most - least;
  });
  const width = Math.max(...widths);
  return { channel: widths.indexOf(width), width };
}

function weight(box: Box): number {
  return box.reduce((sum, [, one]) => sum + one, 0);
}

function middle(box: Box): number {
  const total = weight(box);
  const mean = (channel: number): number => Math.round(box.reduce((sum, [color, one]) => sum + channelsOf(color)[channel]! * one, 0) / total);
  return (mean(0) << 16) | (mean(1) << 8) | mean(2);
}

function nearest(palette: number[], color: number): number {
  const [r, g, b] = channelsOf(color);
  let [best, least] = [0, Infinity];
  palette.forEach((one, at) => {
    const [pr, pg, pb] = channelsOf(one);
    const far = (r - pr) ** 2 + (g - pg) ** 2 + (b - pb) ** 2;
    if (far < least) [best, least] = [at, far];
  });
  return best;
}

function channelsOf(color: number): [number, number, number] {
  return [color >> 16, (color >> 8) & 255, color & 255];
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

/** Of a palette. */
const MOST = 256;
