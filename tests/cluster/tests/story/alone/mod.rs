//! Tests beside which no other one runs: they restart what all use, or need the one address that the chart's values name.

mod restarts;
mod shared_profile;
