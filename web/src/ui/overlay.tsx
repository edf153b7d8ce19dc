// Notices and the one question that may be open.
import { useState } from "preact/hooks";
import { attempt, dismiss, notices, question } from "../notices.ts";
import { Button, Dialog } from "./bits.tsx";

export function Notices() {
  return (
    <div class="notices" role="status" aria-live="polite">
      {notices.value.map((notice) => (
        <div key={notice.id} class={`notice ${notice.kind}`}>
          <span>{notice.text}</span>
          <Button icon="close" label="Dismiss" bare kind="quiet" onClick={() => dismiss(notice.id)} />
        </div>
      ))}
    </div>
  );
}

export function Question() {
  const asked = question.value;
  const [busy, setBusy] = useState(false);
  if (!asked) return null;
  const close = (): void => {
    question.value = null;
  };
  const run = async (): Promise<void> => {
    setBusy(true);
    await attempt(asked.run, asked.action);
    setBusy(false);
    close();
  };
  return (
    <Dialog title={asked.title} onClose={close}>
      <p class="prose">{asked.text}</p>
      <div class="dialog-foot">
        <Button label="Cancel" onClick={close} />
        <Button label={asked.action} kind={asked.danger ? "danger" : "main"} disabled={busy} onClick={() => void run()} />
      </div>
    </Dialog>
  );
}
