//! The module of the filter for whole bodies, as long as they are.

tollgate::export!(tollgate_conformance_filters::Whole);
