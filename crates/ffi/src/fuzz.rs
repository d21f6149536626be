//! Bodies of fuzz targets, as functions that plain tests can call too.

pub use crate::capi::fuzz::capi_calls;
pub use crate::control::fuzz::control_requests;
