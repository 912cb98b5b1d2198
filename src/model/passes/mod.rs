//! Rewriting passes: graph to graph, outputs unchanged. One file per pass.
