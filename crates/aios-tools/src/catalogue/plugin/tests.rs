//! Plugins from installation to removal.
