//! Fields that hold URLs of the application: mapped between its own host and its public origin.

use super::origin_map::OriginMap;
use hyper::header::{self, HeaderName, HeaderValue};

pub(super) const DESTINATION: HeaderName = HeaderName::from_static("destination");
pub(super) const IF: HeaderName = HeaderName::from_static("if");

/// Maps the URL in a field to the application's host; `None`: the field is removed, because it
/// names a page of the gateway.
pub(super) fn rewrite_url_field(
    name: &HeaderName,
    value: &HeaderValue,
    origins: &OriginMap,
) -> Option<HeaderValue> {
    let Ok(url) = value.to_str() else { return Some(value.clone()) };
    if *name == header::REFERER && origins.is_gateway_page(url) {
        return None;
    }
    match origins.to_upstream(url) {
        Some(mapped) => HeaderValue::from_str(&mapped).ok(),
        None => Some(value.clone()),
    }
}

/// Maps the resource that `Destination` names, or those of the tagged lists of `If`, which are in
/// angle brackets as state tokens are.
pub(super) fn rewrite_resources(
    name: &HeaderName,
    value: &HeaderValue,
    origins: &OriginMap,
) -> HeaderValue {
    let Ok(text) = value.to_str() else { return value.clone() };
    let mapped = if *name == DESTINATION {
        origins.to_resource(text)
    } else {
        let mut mapped = String::with_capacity(text.len());
        for piece in text.split_inclusive('>') {
            let url = piece.split_once('<').and_then(|(before, rest)| {
                let url = origins.to_resource(rest.strip_suffix('>')?)?;
                Some(format!("{before}<{url}>"))
            });
            mapped.push_str(url.as_deref().unwrap_or(piece));
        }
        Some(mapped)
    };
    mapped.and_then(|text| HeaderValue::from_str(&text).ok()).unwrap_or_else(|| value.clone())
}

/// `Refresh: 5; url=...` (HTML standard, shared declarative refresh steps).
pub(super) fn rewrite_refresh(value: &HeaderValue, origins: &OriginMap) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let at = text.to_ascii_lowercase().find("url=")? + 4;
    let (before, url) = text.split_at_checked(at)?;
    let url = url.trim().trim_matches(['"', '\'']);
    HeaderValue::from_str(&format!("{before}{}", origins.to_public(url)?)).ok()
}
