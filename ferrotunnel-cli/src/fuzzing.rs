//! A door for the fuzzer to the settings file. In any other build this library is empty: what there is to use is the
//! command, and the library `ferrotunnel`.
#![cfg(fuzzing)]
#![allow(dead_code, missing_docs, reason = "the command's modules, of which one is used")]

mod access;
mod args;
mod client_reload;
mod commands;
mod control;
mod failure;
mod headers;
mod layers;
mod logging;
mod occasion;
mod output;
mod reload;
mod report;
mod runtime;
mod settings;
mod settings_file;
mod signals;
mod standing;
mod systemd;
mod token_file;
mod traces;
mod tunnel;
mod value;

/// What is wrong with a settings file: line, column and words. Paths in it lead nowhere.
pub fn settings_problems(bytes: &[u8]) -> Vec<(usize, usize, String)> {
    let nowhere = std::path::Path::new("/nonexistent");
    match settings_file::SettingsFile::parse(bytes, nowhere) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            let told = problems.into_iter().map(|it| (it.line, it.column, it.message));
            told.collect()
        }
    }
}
