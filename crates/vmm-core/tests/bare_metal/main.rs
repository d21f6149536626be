//! Virtual machines with a few bytes of real-mode code. Needs a `/dev/kvm` of any kind, also one without
//! hardware virtualization; without it these tests fail and say so.

#![cfg(feature = "kvm")]

mod guest;
mod lifecycle;
mod machine;
