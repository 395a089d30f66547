# For the operator: rotate, by itself (`rotate`) or by the engine's own period (`config`).
path "transit/keys/storage" {
  capabilities = ["read"]
}
path "transit/keys/storage/rotate" {
  capabilities = ["update"]
}
path "transit/keys/storage/config" {
  capabilities = ["update"]
}
