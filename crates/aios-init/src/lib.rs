//! aios-init
