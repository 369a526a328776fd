//! aios-api
