//! The options of `portcullis workspace` that say how a web application is met.

use super::parsers::scheme;
use crate::domain::web_app::Scheme;
use clap::Args;

/// What can be said about the web application of a workspace of type html5.
#[derive(Args, Debug, Default)]
pub struct WebArgs {
    /// Type html5: how the application is spoken to: http or https (whose certificate --trust
    /// checks).
    #[arg(long, value_name = "SCHEME", value_parser = scheme)]
    pub scheme: Option<Scheme>,
    /// Type html5: the name the application knows itself by, perhaps with a port; empty: the
    /// session's own origin's.
    #[arg(long, value_name = "NAME")]
    pub web_host: Option<String>,
    /// Type html5: the path at which it opens, such as /lab.
    #[arg(long, value_name = "PATH")]
    pub start: Option<String>,
    /// Type html5: whether X-Forwarded-User, -Name and -Groups tell it who the user is.
    #[arg(long, value_name = "true|false")]
    pub identity_headers: Option<bool>,
    /// Type html5: the audience of a signed assertion about the user that it is sent; empty: none
    /// is.
    #[arg(long, value_name = "AUDIENCE")]
    pub assertion_audience: Option<String>,
    /// Type html5: how the gateway signs in to it with the credential: none, basic, or header (with
    /// --sign-in-header).
    #[arg(long, value_name = "WAY", value_parser = ["none", "basic", "header"])]
    pub sign_in: Option<String>,
    /// Type html5: the header that carries the credential's password.
    #[arg(long, value_name = "HEADER", requires = "sign_in")]
    pub sign_in_header: Option<String>,
    /// Type html5: methods that may pass, separated by commas; empty: every one.
    #[arg(long, value_delimiter = ',', value_name = "METHODS")]
    pub methods: Option<Vec<String>>,
    /// Type html5: paths that may be asked for, each with what is below it, separated by commas;
    /// empty: every one.
    #[arg(long, value_delimiter = ',', value_name = "PATHS")]
    pub paths: Option<Vec<String>>,
    /// Type html5: whether files may go to the application.
    #[arg(long, value_name = "true|false")]
    pub upload: Option<bool>,
    /// Type html5: whether files may come out of it.
    #[arg(long, value_name = "true|false")]
    pub download: Option<bool>,
    /// Type html5: largest body of a request, in bytes; 0: any.
    #[arg(long, value_name = "BYTES")]
    pub max_request: Option<u64>,
}
