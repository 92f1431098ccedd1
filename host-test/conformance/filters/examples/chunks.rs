//! The module of the filter for chunks, as long as they are.

tollgate::export!(tollgate_conformance_filters::Chunks);
