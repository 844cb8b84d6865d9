//! What is wrong with a JSON body, in words of the API: the field, and what it must be. The parser's
//! own messages name types of the implementation, and may contain the value, which may be a password.

use super::error::ApiError;
use super::json_path::path_at;
use actix_web::http::StatusCode;
use serde::de::IgnoredAny;
use serde_json::error::Category;

/// Most characters of a field's name that are repeated to its sender.
const NAME_MAX: usize = 100;

/// The response to a body that was refused: 400 if it is no JSON, 422 if it does not fit.
pub fn json_error(body: &[u8], error: &serde_json::Error) -> ApiError {
    let fits_syntax = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
    match error.classify() {
        Category::Data => ApiError::invalid(sentence(body, error)),
        // The parser calls it a syntax error, too, where a word is expected and a number is there.
        Category::Syntax if fits_syntax() => ApiError::invalid(sentence(body, error)),
        Category::Syntax | Category::Eof | Category::Io => ApiError::new(
            StatusCode::BAD_REQUEST,
            format!(
                "The body is not valid JSON: there is a mistake in line {}, at character {}.",
                error.line(),
                error.column()
            ),
        ),
    }
}

fn sentence(body: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(&*text, |(message, _)| message);
    let path = path_at(body, error.line(), error.column());
    let subject = if path.is_empty() { "The body" } else { &path };
    let field = |name: &str| {
        let dot = if path.is_empty() { "" } else { "." };
        let full = format!("{path}{dot}{name}");
        full.chars().take(NAME_MAX).collect::<String>()
    };
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("{} is missing.", field(name.trim_matches('`')));
    }
    if let Some(name) = message.strip_prefix("duplicate field ") {
        return format!("{} is there twice.", field(name.trim_matches('`')));
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (name, known) = rest.rsplit_once("`, expected ").unwrap_or_else(|| {
            (rest.rsplit_once("`, there are no fields").map_or(rest, |(name, _)| name), "")
        });
        let known = words_in(known);
        let name = field(name);
        return if known.is_empty() {
            format!("There is no field {name}.")
        } else {
            format!("There is no field {name}. There are: {known}.")
        };
    }
    if message.starts_with("unknown variant ") {
        let known = message.rsplit_once("`, expected ").map_or("", |(_, known)| known);
        return format!("{subject} must be one of: {}.", words_in(known));
    }
    let is_wrong_kind = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .any(|start| message.starts_with(start));
    let expected = message.rsplit_once(", expected ").filter(|_| is_wrong_kind);
    match expected.and_then(|(_, expected)| kind(expected)).or_else(|| kind(message)) {
        Some(kind) => format!("{subject} must be {kind}."),
        // A sentence of our own types.
        None if message.ends_with('.') => message.to_owned(),
        None => format!("{subject} has a value of the wrong kind."),
    }
}

/// The words between backticks, as a list.
fn words_in(text: &str) -> String {
    text.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(", ")
}

/// What a field must be, for what the parser says that it expects.
fn kind(expected: &str) -> Option<&'static str> {
    Some(match expected {
        "a boolean" => "true or false",
        "a string" | "a borrowed string" | "a character" => "text",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" | "u128" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        "IP address" | "invalid IP address syntax" => "an IP address",
        "socket address" | "invalid socket address syntax" => {
            "an address and a port, such as 192.0.2.1:51820"
        }
        other if other.starts_with("a workspace id is ") => {
            "1 to 63 lower-case letters, digits and hyphens, starting and ending with a letter or digit"
        }
        other if other.starts_with("struct ") => "an object",
        other if other.contains("UUID") => "an id",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::net::{IpAddr, SocketAddr};
    use uuid::Uuid;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
        Two,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read from JSON")]
    struct Inner {
        port: u16,
        on: Option<bool>,
        list: Option<Vec<String>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read from JSON")]
    struct Input {
        name: String,
        word: Option<Word>,
        inner: Option<Inner>,
        id: Option<Uuid>,
        at: Option<SocketAddr>,
        address: Option<IpAddr>,
    }

    fn answer(body: &str) -> (u16, String) {
        let shown = json_error(body.as_bytes(), &serde_json::from_str::<Input>(body).unwrap_err());
        (shown.status().as_u16(), shown.detail().to_owned())
    }

    #[test]
    fn errors_name_the_field_and_what_it_must_be() {
        for (body, sentence) in [
            (r#"{"word":"one"}"#, "name is missing."),
            (r#"{"name":1}"#, "name must be text."),
            (r#"{"name":{"a":"secret"}}"#, "name must be text."),
            (r#"{"name":"a","name":"b"}"#, "name is there twice."),
            (
                r#"{"name":"a","extra":"secret"}"#,
                "There is no field extra. There are: name, word, inner, id, at, address.",
            ),
            (r#"{"name":"a","word":"secret"}"#, "word must be one of: one, two."),
            (r#"{"name":"a","word":"se`, expected `cret"}"#, "word must be one of: one, two."),
            (r#"{"name":"a","word":7}"#, "word has a value of the wrong kind."),
            (r#"{"name":"a","inner":7}"#, "inner must be an object."),
            (r#"{"name":"a","inner":{}}"#, "inner.port is missing."),
            (
                "{\"name\":\"a\",\n \"inner\": {\"on\":true, \"port\": 70000}}",
                "inner.port must be a whole number from 0 to 65535.",
            ),
            (
                r#"{"name":"a","inner":{"port":-1}}"#,
                "inner.port must be a whole number from 0 to 65535.",
            ),
            (
                r#"{"inner":{"port":"secret"}}"#,
                "inner.port must be a whole number from 0 to 65535.",
            ),
            (
                r#"{"inner":{"port":1,"on":"secret, expected x"}}"#,
                "inner.on must be true or false.",
            ),
            (r#"{"inner":{"port":1,"list":["a",2]}}"#, "inner.list[1] must be text."),
            (r#"{"inner":{"port":1,"list":{}}}"#, "inner.list must be a list."),
            (
                r#"{"inner":{"port":1,"x":1}}"#,
                "There is no field inner.x. There are: port, on, list.",
            ),
            (r#"{"id":"secret"}"#, "id must be an id."),
            (r#"{"id":[1]}"#, "id must be an id."),
            (r#"{"at":"secret"}"#, "at must be an address and a port, such as 192.0.2.1:51820."),
            (r#"{"address":"secret"}"#, "address must be an IP address."),
            (r#"{"address":5}"#, "address must be an IP address."),
        ] {
            assert_eq!(answer(body), (422, sentence.to_owned()), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for body in ["", "{", r#"{"name": tru"#, r#"{"name":"a",}"#, "{\"name\":\"a\n\"}"] {
            let (status, detail) = answer(body);
            assert_eq!(status, 400, "{body}: {detail}");
            assert!(detail.starts_with("The body is not valid JSON: "), "{detail}");
        }
    }
}
