//! BoringTun's defects on a mock clock. Everything is in `tests/defects.rs`.
