//! `portcullis audit`: verifies the log in a database or an export, writes an export, and prints
//! the public key of the log's signed head.

use super::cli::{AuditCommand, GatewayDataArgs};
use super::failure::Failure;
use super::shell::{Shell, load_config};
use super::{keys, open};
use crate::auth::Vault;
use crate::auth::vault::verify_head_with;
use crate::config::value::DatabaseUrl;
use crate::domain::audit::{ChainFault, ExportedEntry, Head, Verifier};
use crate::domain::user::RequestSource;
use crate::files;
use crate::store::{HeadSigner, Purpose};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write};
use std::path::Path;
use std::sync::Arc;

/// Longest line of an export, in bytes; an entry is far shorter.
const LINE_LIMIT: u64 = 1024 * 1024;

/// Runs a `portcullis audit` command.
///
/// # Errors
/// For `verify`, names the first invalid entry.
pub async fn run(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify { export: Some(file), public_key, .. } => {
            verify_export(&file, public_key.as_deref())
        }
        AuditCommand::Verify { export: None, database, public_key, at } => {
            verify_database(database, public_key, &at).await
        }
        AuditCommand::AcceptDamage { at } => accept_damage(&at).await,
        AuditCommand::Export { output, at } => export(output.as_deref(), &at).await,
        AuditCommand::PublicKey { at } => {
            println!("{}", vault(&at)?.audit_public_key());
            Ok(())
        }
    }
}

fn vault(at: &GatewayDataArgs) -> Result<Vault, Failure> {
    Ok(Vault::from_master_key(*keys::load(&load_config(at)?.server.data_dir)?.master))
}

/// Verifies heads by a public key. It signs none, and is used only to examine.
struct PublicKeyVerifier(String);

impl HeadSigner for PublicKeyVerifier {
    fn sign(&self, _: &str) -> String {
        String::new()
    }
    fn verify(&self, text: &str, signature: &str) -> bool {
        verify_head_with(&self.0, text, signature)
    }
}

async fn verify_database(
    database: Option<DatabaseUrl>,
    public_key: Option<String>,
    at: &GatewayDataArgs,
) -> Result<(), Failure> {
    // The witness is of the configured database; a copy elsewhere may be older.
    let (url, witness) = match database {
        Some(url) => {
            let config = load_config(at).ok().filter(|c| c.database_url().expose() == url.expose());
            (url, config.map(|config| open::witness_path(&config)))
        }
        None => {
            let config = load_config(at)?;
            (config.database_url(), Some(open::witness_path(&config)))
        }
    };
    if let Some(path) = url.sqlite_path().filter(|path| !path.exists()) {
        return Err(Failure::new(format!("there is no database at {}", path.display())));
    }
    let signer: Arc<dyn HeadSigner> = match public_key {
        Some(key) => Arc::new(PublicKeyVerifier(key)),
        None => Arc::new(vault(at)?),
    };
    let store = open::store_with(&url, Purpose::Examine, signer, witness).await?;
    let verdict = store.verify_chain().await?;
    match verdict.fault {
        None => {
            print_verdict(verdict.entries, verdict.accepted_by, &verdict.head);
            Ok(())
        }
        Some(fault) => Err(chain_failure(&fault, verdict.entries)),
    }
}

fn print_verdict(entries: i64, accepted_by: Option<i64>, head: &Head) {
    match accepted_by {
        None => println!("{entries} entries, whole and unaltered; head {}", head.hash),
        Some(from) => println!(
            "{entries} entries, from entry {from} on whole and unaltered; head {}\nNothing before entry {from} is proved: with it an administrator accepted that the log was altered.",
            head.hash
        ),
    }
}

/// Continues a log that does not verify.
async fn accept_damage(at: &GatewayDataArgs) -> Result<(), Failure> {
    let config = load_config(at)?;
    let vault = vault(at)?;
    let store = open::store_for(Purpose::Accept, &config, &vault).await?;
    let broker = open::broker_without_fleet(store, vault, &config);
    let seq = broker.audit().accept_damage(&RequestSource::local("shell")).await?;
    println!(
        "The audit log continues from entry {seq}, which records what did not verify. Nothing before it is proved any more."
    );
    Ok(())
}

fn chain_failure(fault: &ChainFault, good: i64) -> Failure {
    Failure::new(format!(
        "the audit log is NOT whole: {fault} ({good} entries before that are good)"
    ))
}

/// The last line of an export.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportTrailer {
    head: Head,
    public_key: String,
}

fn verify_export(file: &Path, public_key: Option<&str>) -> Result<(), Failure> {
    let unreadable = |e: &dyn std::fmt::Display| {
        Failure::new(format!("cannot read the export {}: {e}", file.display()))
    };
    let mut lines = BufReader::new(File::open(file).map_err(|e| unreadable(&e))?);
    let mut chain = Verifier::default();
    let mut line = Vec::new();
    let last = loop {
        line.clear();
        lines.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line).map_err(|e| unreadable(&e))?;
        if line.is_empty() {
            let message = format!(
                "the export {} was cut off: its last line, the signed head, is missing ({} entries are good)",
                file.display(),
                chain.entries()
            );
            return Err(Failure::new(message));
        }
        let text = line.trim_ascii_end();
        if let Ok(last) = serde_json::from_slice::<ExportTrailer>(text) {
            break last;
        }
        verify_line(&mut chain, text);
    };
    let more = lines.read_until(b'\n', &mut line).map_err(|e| unreadable(&e))?;
    if more > 0 {
        return Err(Failure::new(format!(
            "something follows the signed head in {}",
            file.display()
        )));
    }
    let key = public_key.unwrap_or(&last.public_key);
    if !verify_head_with(
        key,
        &Head::signed_text(last.head.seq, &last.head.hash),
        &last.head.signature,
    ) {
        let fault = ChainFault::BadHead { detail: "its signature is not by the key".to_owned() };
        return Err(chain_failure(&fault, chain.entries()));
    }
    chain.finish(&last.head).map_err(|fault| chain_failure(&fault, chain.entries()))?;
    print_verdict(chain.entries(), chain.accepted_by(), &last.head);
    if chain.withheld() > 0 {
        println!(
            "{} of them are of other organizations or of none: the export has only their hashes.",
            chain.withheld()
        );
    }
    if public_key.is_none() {
        println!(
            "Proved by the key in the file itself. To know that it is your gateway's, give --public-key with what `portcullis audit public-key` printed there."
        );
    }
    Ok(())
}

/// Verifies a line. One that does not parse, or holds more than an entry, was changed. The verifier
/// keeps the first fault.
fn verify_line(chain: &mut Verifier, text: &[u8]) {
    let entry = serde_json::from_slice::<ExportedEntry>(text)
        .ok()
        .filter(|entry| serde_json::to_vec(entry).is_ok_and(|bytes| bytes == text));
    let _: Result<(), ChainFault> = match &entry {
        Some(ExportedEntry::Entry(entry)) => chain.push(entry),
        Some(ExportedEntry::Withheld(entry)) => chain.push_withheld(entry),
        None => chain.push_unreadable(chain.entries() + 1, &String::from_utf8_lossy(text)),
    };
}

async fn export(output: Option<&Path>, at: &GatewayDataArgs) -> Result<(), Failure> {
    let shell = Shell::open(at).await?;
    let public_key = vault(at)?.audit_public_key();
    let mut reader = shell.broker.audit().export(&shell.source, &shell.caller).await?;
    let mut out: Box<dyn Write> = match output {
        Some(path) => Box::new(BufWriter::new(
            files::create_private(path)
                .map_err(|e| Failure::new(format!("cannot write {}: {e}", path.display())))?,
        )),
        None => Box::new(BufWriter::new(std::io::stdout().lock())),
    };
    let write_failure = |e: std::io::Error| Failure::new(format!("cannot write the export: {e}"));
    loop {
        let entries = reader.next().await?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            let line = serde_json::to_string(entry).map_err(|e| Failure::new(e.to_string()))?;
            writeln!(out, "{line}").map_err(write_failure)?;
        }
    }
    let last = serde_json::json!({"head": reader.head, "public_key": public_key});
    writeln!(out, "{last}").and_then(|()| out.flush()).map_err(write_failure)
}
