//! Command lines: what parses to what, and the pages of help.
