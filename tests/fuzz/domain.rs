//! What the parts of `src/tunnel` use of `src/domain`.

#[path = "../../src/domain/sync.rs"]
pub mod sync;
