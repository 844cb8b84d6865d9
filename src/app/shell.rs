//! What administrative commands share: a broker on the gateway's data, reading passwords, and
//! printing tables.
//!
//! A command runs beside the gateway on the same database; the gateway's change watcher acts on
//! what it changes.

use super::cli::GatewayDataArgs;
use super::failure::Failure;
use super::open;
use crate::broker::Broker;
use crate::config::Config;
use crate::domain::principal::Principal;
use crate::domain::secret::SecretString;
use crate::domain::user::{RequestSource, User};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

/// Longest password line read from standard input.
const LINE_LIMIT: u64 = 1024;
const PASSWORD_PROMPT_NAME: &str = "the password";
/// Without letters and digits that are easily confused.
const PASSWORD_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// What an administrative command works with.
pub struct Shell {
    pub broker: Broker,
    /// As whom: an admin, audited as `system`.
    pub caller: Principal,
    pub source: RequestSource,
    pub config: Config,
}

impl Shell {
    /// Opens the gateway's data.
    ///
    /// # Errors
    /// A sentence saying what is missing.
    pub async fn open(at: &GatewayDataArgs) -> Result<Self, Failure> {
        let config = load_config(at)?;
        let broker = open::open_for_cli(&config).await?;
        broker.organizations().ensure(&config.server.organization).await?;
        let caller = broker.organizations().system_principal().await?;
        Ok(Self {
            broker,
            caller,
            source: RequestSource::local(format!("shell-{}", uuid::Uuid::new_v4())),
            config,
        })
    }

    /// The user with this address.
    ///
    /// # Errors
    /// When there is none.
    pub async fn user(&self, email: &str) -> Result<User, Failure> {
        let found = self.broker.users().find_by_email(&self.caller, email).await?;
        found.ok_or_else(|| {
            Failure::new(format!("there is no user {email}; `portcullis user list` shows all"))
        })
    }
}

/// The settings of an administrative command.
///
/// # Errors
/// As [`Config::load`].
pub fn load_config(at: &GatewayDataArgs) -> Result<Config, Failure> {
    let mut config = Config::load(Config::default(), at.config.as_deref(), std::env::vars())?;
    if let Some(dir) = &at.data_dir {
        config.server.data_dir.clone_from(dir);
    }
    Ok(config)
}

/// A generated password, or one from standard input.
///
/// # Errors
/// When the input is empty, or the repetition differs.
pub fn read_or_generate_password(generate: bool) -> Result<SecretString, Failure> {
    if generate {
        return Ok(generated_password());
    }
    if !std::io::stdin().is_terminal() {
        return read_secret_line(PASSWORD_PROMPT_NAME, LINE_LIMIT);
    }
    let first = prompt("Password: ")?;
    let second = prompt("The same again: ")?;
    if first == second {
        Ok(first)
    } else {
        Err(Failure::new("the two passwords differ; nothing was changed"))
    }
}

/// Four groups of five characters, 100 bits.
#[must_use]
pub fn generated_password() -> SecretString {
    let letter = || char::from(PASSWORD_ALPHABET[usize::from(rand::random::<u8>() & 31)]);
    let group = || (0..5).map(|_| letter()).collect::<String>();
    SecretString::new([group(), group(), group(), group()].join("-"))
}

/// One line of standard input; `what` names it in errors.
///
/// # Errors
/// When there is none.
pub fn read_secret_line(what: &str, limit: u64) -> Result<SecretString, Failure> {
    let mut line = zeroize::Zeroizing::new(String::new());
    let mut limited = std::io::Read::take(std::io::stdin().lock(), limit);
    limited
        .read_line(&mut line)
        .map_err(|e| Failure::new(format!("cannot read {what} from standard input: {e}")))?;
    let text = line.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        Err(Failure::new(format!("{what} did not come on standard input; nothing was changed")))
    } else {
        Ok(SecretString::new(text.to_owned()))
    }
}

fn prompt(prompt: &str) -> Result<SecretString, Failure> {
    let echo = |mode: &str| drop(Command::new("stty").arg(mode).stdin(Stdio::inherit()).status());
    eprint!("{prompt}");
    drop(std::io::stderr().flush());
    echo("-echo");
    let typed = read_secret_line(PASSWORD_PROMPT_NAME, LINE_LIMIT);
    echo("echo");
    eprintln!();
    typed
}

/// Prints rows under headings, in aligned columns.
pub fn print_table(headings: &[&str], rows: &[Vec<String>]) {
    print!("{}", format_table(headings, rows));
}

fn format_table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        rows.iter()
            .filter_map(|r| r.get(i))
            .map(|c| c.chars().count())
            .chain([headings[i].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, &w)| format!("{cell:w$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(headings.to_vec());
    for row in rows {
        // Names are arbitrary: control characters must not reach the terminal.
        let clean: Vec<String> = row
            .iter()
            .map(|c| c.chars().map(|ch| if ch.is_control() { '?' } else { ch }).collect())
            .collect();
        text.push_str(&line(clean.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_differ_and_can_be_typed() {
        let (a, b) = (generated_password(), generated_password());
        assert_ne!(a, b);
        assert_eq!(a.expose().len(), 23);
        assert!(a.expose().bytes().all(|c| c == b'-' || PASSWORD_ALPHABET.contains(&c)));
    }

    #[test]
    fn tables_line_up_and_carry_no_controls() {
        let text = format_table(
            &["EMAIL", "ROLE"],
            &[vec!["a@b.c".into(), "admin".into()], vec!["longer@b.c".into(), "x\u{1b}[2J".into()]],
        );
        assert_eq!(text, "EMAIL       ROLE\na@b.c       admin\nlonger@b.c  x?[2J\n");
    }
}
