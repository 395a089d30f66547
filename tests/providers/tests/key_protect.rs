//! Key Protect against `devkms`, which IBM's own client passes too.

providers::for_each_check!(providers::conformance_tests!(providers::KeyProtect));
