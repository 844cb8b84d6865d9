//! Options of `portcullis user`.

use super::args::{GatewayDataArgs, ListFormatArgs, PasswordArgs};
use super::parsers::role;
use crate::domain::user::Role;
use clap::{Args, Subcommand};

/// `portcullis user`
#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// Creates a user, for example the first administrator.
    Create {
        /// E-mail address.
        email: String,
        /// Name people read [default: the part of the address before the @].
        #[arg(long)]
        name: Option<String>,
        /// member, admin or security.
        #[arg(long, default_value = "member", value_parser = role)]
        role: Role,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Lists the users.
    List {
        #[command(flatten)]
        format: ListFormatArgs,
        #[command(flatten)]
        at: GatewayDataArgs,
    },
    /// Disables a user: their sessions and logins end at once.
    Disable {
        #[command(flatten)]
        user: UserArg,
    },
    /// Enables a user again.
    Enable {
        #[command(flatten)]
        user: UserArg,
    },
    /// Sets a user's password.
    SetPassword {
        #[command(flatten)]
        user: UserArg,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Removes a user's second factor; they enrol a new one at their next sign-in.
    ResetMfa {
        #[command(flatten)]
        user: UserArg,
    },
    /// Ends all logins and sessions of a user.
    SignOut {
        #[command(flatten)]
        user: UserArg,
    },
}

/// A user, by address.
#[derive(Args, Debug)]
pub struct UserArg {
    /// The user's e-mail address.
    pub email: String,
    /// Where.
    #[command(flatten)]
    pub at: GatewayDataArgs,
}
