//! What the parts of `src/tunnel` use of `src/domain`.

#[path = "../../src/domain/rate_limit.rs"]
#[allow(dead_code)]
pub mod rate_limit;
#[path = "../../src/domain/sync.rs"]
pub mod sync;
