//! aios-runtime
