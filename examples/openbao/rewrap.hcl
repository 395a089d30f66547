# For rewrap Jobs: the same data key under the current version, which never shows it.
path "transit/keys/storage" {
  capabilities = ["read"]
}
path "transit/rewrap/storage" {
  capabilities = ["update"]
}
