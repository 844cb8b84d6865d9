//! Options of `portcullis audit`.

use super::args::GatewayDataArgs;
use crate::config::value::DatabaseUrl;
use clap::Subcommand;
use std::path::PathBuf;

/// `portcullis audit`
#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// Proves that no entry was changed, removed, reordered or cut off, and names the first that
    /// was.
    ///
    /// Reads the gateway's database, or an exported file: then nothing but the file and the
    /// gateway's public key is needed.
    Verify {
        /// Database instead of the configured one: sqlite:PATH or postgres://...
        #[arg(long, value_name = "URL", conflicts_with = "export")]
        database: Option<DatabaseUrl>,
        /// An export (JSON lines) to prove instead of a database.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
        /// The gateway's audit public key (base64), to prove the end of the log; `portcullis audit
        /// public-key` prints it.
        #[arg(long, value_name = "KEY")]
        public_key: Option<String>,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Writes the whole log as JSON lines, oldest first, its signed head last.
    Export {
        /// File to write, which must not exist [default: standard output].
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Continues an audit log that was altered, cut off, or replaced by an older copy.
    ///
    /// After such damage the gateway writes nothing and does not start. First look for the newest
    /// intact copy of the database: with it, this command is not needed. Otherwise this command
    /// writes an entry that says what did not verify and identifies everything before it; from that
    /// entry on the log is proved again, and nothing before it is.
    AcceptDamage {
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Prints the public key that proves the end of the log. Keep it apart from the gateway.
    PublicKey {
        #[command(flatten)]
        at: GatewayDataArgs,
    },
}
