//! aios-core
