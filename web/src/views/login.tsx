// Where the interface wants a token.
import { useState } from "preact/hooks";
import { ApiError, api } from "../api.ts";
import { begin } from "../store.ts";
import { Mark } from "../ui/icon.tsx";

export function Login() {
  const [token, setToken] = useState("");
  const [fault, setFault] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setFault(null);
    try {
      await api.login(token);
      await begin();
    } catch (error) {
      const refused = error instanceof ApiError && (error.status === 401 || error.status === 403);
      setFault(refused ? "That is not the token." : error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <main class="login">
      <form class="card login-card" onSubmit={(event) => void submit(event)}>
        <Mark />
        <h1>FerroTunnel</h1>
        <p>This admin interface asks for its token: what is in the file that <code>--admin-token-file</code> names.</p>
        <label for="token">Token</label>
        <input
          id="token"
          class="input mono"
          type="password"
          autocomplete="current-password"
          autofocus
          required
          value={token}
          aria-invalid={fault !== null}
          aria-describedby="login-fault"
          onInput={(event) => setToken(event.currentTarget.value)}
        />
        <p id="login-fault" class="fault" role="alert">
          {fault}
        </p>
        <button type="submit" class="button main" disabled={busy || token === ""}>
          Log in
        </button>
      </form>
    </main>
  );
}
