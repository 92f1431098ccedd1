//! The module of the filter for headers and trailers.

tollgate::export!(tollgate_conformance_filters::Maps);
