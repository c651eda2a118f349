//! The built-in health suite.

pub mod facts;
