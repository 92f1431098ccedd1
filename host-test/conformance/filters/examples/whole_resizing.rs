//! The module of the filter for whole bodies, made longer and shorter.

tollgate::export!(tollgate_conformance_filters::WholeResizing);
