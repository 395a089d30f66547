//! The KMS without its wire: state under one lock, changed only together with the store. Invariant: what a caller was told is on disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use crate::access::Access;
use crate::clock::{Clock, Seconds};
use crate::config::Rules;
use crate::error::{ApiError, Reason};
use crate::keys::{Instance, Key, Material};
use crate::seed::{SEEDED_BY, Seed, SeedError, is_id};
use crate::store::{Loaded, Meta, Store, StoreError};

/// Instances and identities.
#[derive(Debug, Default)]
pub struct State {
    pub instances: BTreeMap<String, Instance>,
    pub access: Access,
}

/// Everything behind the API.
#[derive(Debug)]
pub struct Service {
    pub clock: Clock,
    rules: RwLock<Rules>,
    seeded_rules: Rules,
    state: Mutex<State>,
    store: Store,
    meta: Meta,
    seed: Seed,
}

/// The service cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("open the store")]
    Store(#[from] StoreError),
    #[error("apply the seed")]
    Seed(#[from] SeedError),
}

impl Service {
    /// Opens the store and adds what the seed names and the store lacks.
    pub fn new(store: Option<&std::path::Path>, seed: Seed, rules: Rules) -> Result<Self, SetupError> {
        let (store, Loaded { meta, instances }) = Store::open(store)?;
        let service = Self {
            clock: Clock::ahead_by(meta.clock_offset),
            rules: RwLock::new(rules),
            seeded_rules: rules,
            state: Mutex::new(State { instances, access: seed.access()? }),
            store,
            meta,
            seed,
        };
        service.apply_seed()?;
        service.tick();
        Ok(service)
    }

    fn apply_seed(&self) -> Result<(), SetupError> {
        let now = self.clock.now();
        let mut state = self.lock();
        for wanted in &self.seed.instances {
            if !is_id(&wanted.id) {
                return Err(SeedError::Invalid(format!(
                    "instance id '{}' is not letters, digits and dashes",
                    wanted.id
                ))
                .into());
            }
            let mut instance = match state.instances.get(&wanted.id) {
                Some(instance) => instance.clone(),
                None => Instance::new(&wanted.id, now, SEEDED_BY),
            };
            for ring in &wanted.key_rings {
                let made = crate::keys::Made { at: now, by: SEEDED_BY.to_owned() };
                instance.rings.entry(ring.clone()).or_insert(made);
            }
            self.store.save_instance(&instance)?;
            for key in self.seed.missing_keys(&instance, now)? {
                if !instance.rings.contains_key(&key.ring) {
                    return Err(SeedError::Invalid(format!(
                        "key {} names key ring '{}', which the instance lacks",
                        key.id, key.ring
                    ))
                    .into());
                }
                self.store.save_key(&instance.id, &key)?;
                instance.keys.insert(key.id.clone(), key);
            }
            state.instances.insert(instance.id.clone(), instance);
        }
        Ok(())
    }

    /// The state, locked.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules in force.
    pub fn rules(&self) -> Rules {
        *self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other rules in force.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// The rules that the server was started with.
    pub fn seeded_rules(&self) -> Rules {
        self.seeded_rules
    }

    /// Signs and checks access tokens.
    pub fn token_key(&self) -> &Material {
        &self.meta.token_key
    }

    /// Changes one key: on a copy, then on disk, then in memory.
    pub fn change_key<T>(
        &self,
        state: &mut State,
        instance: &str,
        id: &str,
        change: impl FnOnce(&mut Key) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let keys = &mut state.instances.get_mut(instance).ok_or(Reason::KeyNotFound)?.keys;
        let mut key = keys.get(id).ok_or(Reason::KeyNotFound)?.clone();
        let result = change(&mut key)?;
        self.store.save_key(instance, &key).map_err(internal)?;
        keys.insert(id.to_owned(), key);
        Ok(result)
    }

    /// Adds a key.
    pub fn add_key(&self, state: &mut State, instance: &str, key: Key) -> Result<(), ApiError> {
        let keys = &mut state.instances.get_mut(instance).ok_or(Reason::KeyNotFound)?.keys;
        self.store.save_key(instance, &key).map_err(internal)?;
        keys.insert(key.id.clone(), key);
        Ok(())
    }

    /// Drops a key for good.
    pub fn purge_key(&self, state: &mut State, instance: &str, id: &str) -> Result<(), ApiError> {
        let keys = &mut state.instances.get_mut(instance).ok_or(Reason::KeyNotFound)?.keys;
        self.store.remove_key(instance, id).map_err(internal)?;
        keys.remove(id);
        Ok(())
    }

    /// Changes what belongs to an instance as a whole; `change` sees it without its keys.
    pub fn change_instance<T>(
        &self,
        state: &mut State,
        id: &str,
        change: impl FnOnce(&mut Instance) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let slot = state.instances.get_mut(id).ok_or(Reason::Unauthorized)?;
        // The keys step aside: they are many and have records of their own.
        let keys = std::mem::take(&mut slot.keys);
        let mut instance = slot.clone();
        let result = change(&mut instance).and_then(|result| {
            self.store.save_instance(&instance).map_err(internal)?;
            *slot = instance;
            Ok(result)
        });
        slot.keys = keys;
        result
    }

    /// Moves the clock forward and carries out what became due.
    pub fn advance(&self, seconds: u32) -> Result<Seconds, StoreError> {
        let offset = self.clock.advance(seconds);
        self.store.save_meta(&self.meta.ahead_by(offset))?;
        self.tick();
        Ok(offset)
    }

    /// Rotates keys whose policy is due and purges keys that were deleted long ago.
    pub fn tick(&self) {
        let (now, rules) = (self.clock.now(), self.rules());
        let mut state = self.lock();
        let keys = state.instances.values().flat_map(|i| i.keys.values().map(|k| (i.id.clone(), k)));
        let due: Vec<(String, String, bool)> = keys
            .filter_map(|(instance, key)| {
                let purge = key.deleted.as_ref().is_some_and(|d| d.at + rules.purge_after <= now);
                let rotate = key.state(now) == crate::keys::KeyState::Active
                    && key.rotation_due().is_some_and(|at| at <= now);
                (purge || rotate).then(|| (instance, key.id.clone(), purge))
            })
            .collect();
        for (instance, id, purge) in due {
            let done = if purge {
                self.purge_key(&mut state, &instance, &id)
            } else {
                self.change_key(&mut state, &instance, &id, |key| {
                    key.rotate(Material::random().map_err(|_| Reason::Internal)?, now);
                    Ok(())
                })
            };
            tracing::info!(key = id, purge, done = done.is_ok(), "carry out what the clock made due");
        }
    }

    /// Throws every key away and starts again from the seed, clock and all.
    pub fn start_over(&self) -> Result<(), SetupError> {
        {
            let mut state = self.lock();
            self.store.wipe()?;
            state.instances.clear();
            self.clock.rewind();
        }
        self.store.save_meta(&self.meta.ahead_by(0))?;
        self.apply_seed()
    }
}

#[allow(clippy::needless_pass_by_value)]
fn internal(error: StoreError) -> ApiError {
    tracing::error!(error = &error as &dyn std::error::Error, "keep a change");
    Reason::Internal.into()
}
