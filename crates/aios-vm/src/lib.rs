//! aios-vm
