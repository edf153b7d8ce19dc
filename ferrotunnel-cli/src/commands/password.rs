//! `ferrotunnel password`: the hash of a password or of a bearer token, for `--basic-auth` and `--bearer-token`.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use ferrotunnel::{BasicUser, BearerToken, hash_password};
use serde_json::json;

use crate::args::PasswordArgs;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(args: &PasswordArgs, output: &Output) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
    // What is wrong with the name is said before anybody types a password.
    if let Some(user) = &args.user {
        BasicUser::check_name(user).map_err(Failure::usage)?;
    }
    let secret = read(args.bearer, output)?;
    let line = match &args.user {
        _ if args.bearer => {
            BearerToken::of_secret(&secret).map_err(|why| failed(&why))?.to_string()
        }
        None => hash_password(&secret).map_err(|error| failed(&error))?,
        Some(user) => {
            let hash = hash_password(&secret).map_err(|error| failed(&error))?;
            format!("{user}:{hash}")
        }
    };
    output.answer_event(&json!({ "event": "password", "user": args.user, "hash": line }))?;
    output.answer_plain(line)?;
    Ok(())
}

/// The first line of stdin, without its end. What is typed at a terminal is not shown.
fn read(is_token: bool, output: &Output) -> Result<String, Failure> {
    let what = if is_token { "token" } else { "password" };
    let stdin = io::stdin();
    let _silence = stdin.is_terminal().then(|| {
        // First: who is asked may type at once.
        let silence = silence::Silence::begin();
        output.talk(format_args!("type the {what} and press Enter:"));
        silence
    });
    let mut line = String::new();
    let read = stdin.lock().take(MOST_BYTES).read_line(&mut line);
    read.map_err(|error| Failure::failed(format!("cannot read the {what} from stdin: {error}")))?;
    let secret = line.strip_suffix('\n').unwrap_or(&line);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        return Err(Failure::failed(format!(
            "there is no {what} on stdin; pipe it in, or type it"
        )));
    }
    Ok(secret.to_owned())
}

/// More than a password may have, so that one that is too long is found to be.
const MOST_BYTES: u64 = 8_192;

/// A terminal that shows nothing of what is typed.
#[cfg(unix)]
mod silence {
    use std::io;

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    pub(super) struct Silence(Option<Termios>);

    impl Silence {
        pub(super) fn begin() -> Self {
            let before = tcgetattr(io::stdin()).ok();
            if let Some(mut silent) = before.clone() {
                silent.local_modes.remove(LocalModes::ECHO);
                silent.local_modes.insert(LocalModes::ECHONL);
                let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &silent);
            }
            Self(before)
        }
    }

    impl Drop for Silence {
        fn drop(&mut self) {
            if let Some(before) = &self.0 {
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
            }
        }
    }
}

/// Not here: pipe the password in.
#[cfg(not(unix))]
mod silence {
    pub(super) struct Silence;

    impl Silence {
        pub(super) fn begin() -> Self {
            Self
        }
    }
}
