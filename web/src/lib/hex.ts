// Bytes as people look at them: offset, sixteen of them, and what of it is text.

export interface Row {
  offset: string;
  hex: string;
  text: string;
}

export function rows(bytes: Uint8Array, most = Number.POSITIVE_INFINITY): Row[] {
  const out: Row[] = [];
  for (let at = 0; at < bytes.length && out.length < most; at += 16) {
    const line = bytes.subarray(at, at + 16);
    let hex = "";
    let text = "";
    line.forEach((byte, index) => {
      hex += `${index === 0 ? "" : index === 8 ? "  " : " "}${byte.toString(16).padStart(2, "0")}`;
      text += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·";
    });
    out.push({ offset: at.toString(16).padStart(8, "0"), hex: hex.padEnd(48), text });
  }
  return out;
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}
