//! The use cases: sign in, launch, disconnect, stop, expire, administer. Each is one decision, one transaction.
