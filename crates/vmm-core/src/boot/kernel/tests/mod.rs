use super::*;

mod build;
mod formats;
mod hostile;
mod ram_disks;
