//! Types that every aiOS process shares: the configuration schema, quantities with units, the control protocol of PID 1
//! and the paths they meet at. No I/O beyond reading configuration files.

pub mod config;
pub mod control;
pub mod paths;
pub mod quantity;
