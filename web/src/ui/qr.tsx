// The address as a picture for the camera of a phone.
import { encode } from "uqr";
import { Dialog, CopyButton } from "./bits.tsx";

export function QrDialog({ url, onClose }: { url: string; onClose: () => void }) {
  const code = encode(url, { border: 3 });
  let path = "";
  code.data.forEach((row, y) =>
    row.forEach((on, x) => {
      if (on) path += `M${x} ${y}h1v1h-1z`;
    }),
  );
  return (
    <Dialog title="Open on a phone" onClose={onClose}>
      <svg class="qr" viewBox={`0 0 ${code.size} ${code.size}`} role="img" aria-label={`QR code of ${url}`} shape-rendering="crispEdges">
        <rect width={code.size} height={code.size} fill="#fff" />
        <path d={path} fill="#000" />
      </svg>
      <p class="qr-url">
        <span class="mono">{url}</span>
        <CopyButton text={url} what="address" />
      </p>
    </Dialog>
  );
}
