//! The module of the filter for chunks, made longer and shorter.

tollgate::export!(tollgate_conformance_filters::ChunksResizing);
