//! aios-image-tests
