//! Modules as artefacts: read, checked, finished, and as bytes that mean harm.

mod check;
mod finish;
mod fixture;
mod hostile;
