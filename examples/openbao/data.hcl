# For sidecars: wrap, unwrap and read the key's state. No `create`: Transit would make a missing key while it encrypts.
path "transit/keys/storage" {
  capabilities = ["read"]
}
path "transit/encrypt/storage" {
  capabilities = ["update"]
}
path "transit/decrypt/storage" {
  capabilities = ["update"]
}
path "transit/datakey/plaintext/storage" {
  capabilities = ["update"]
}
path "transit/rewrap/storage" {
  capabilities = ["update"]
}
