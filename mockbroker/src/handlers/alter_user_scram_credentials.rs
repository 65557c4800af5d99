//! AlterUserScramCredentials (51), version 0.
//!
//! Does: gives users SCRAM credentials and takes them away; they can log in by them at once (KIP-554).
//! Leaves out: nothing.
//! Differs from Apache Kafka: users come in the order of the request.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::security::scram::{ITERATIONS_MAX, ITERATIONS_MIN, ScramCredential, ScramHash};
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use crate::wire::generated::alter_user_scram_credentials_response::{
    AlterUserScramCredentialsResponse, AlterUserScramCredentialsResult,
};
use indexmap::IndexMap;

/// What is to become of a user.
enum Change {
    Remove(ScramHash),
    Set(ScramHash, ScramCredential),
}

pub(super) fn alter_user_scram_credentials(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: AlterUserScramCredentialsRequest,
) -> Answer {
    let mut changes: IndexMap<Str, Result<Change, Reject>> = IndexMap::new();
    let mut plan = |user: Str, change: Result<Change, Reject>| {
        let twice = || Err(Reject::new(ErrorCode::DuplicateResource, "the request alters this user twice"));
        changes
            .entry(user)
            .and_modify(|planned| {
                // The first mistake is the one that is told.
                if planned.is_ok() {
                    *planned = twice();
                }
            })
            .or_insert(change);
    };
    for deletion in &request.deletions {
        plan(deletion.name.clone(), removal(state, from, &deletion.name, deletion.mechanism));
    }
    for upsertion in &request.upsertions {
        plan(upsertion.name.clone(), setting(state, from, upsertion));
    }
    let results = changes.into_iter().map(|(user, change)| {
        let refused = change.map(|change| make(state, &user, change)).err();
        AlterUserScramCredentialsResult {
            user,
            error_code: refused.as_ref().map_or(ErrorCode::None, |reject| reject.code).code(),
            error_message: refused.as_ref().and_then(message),
        }
    });
    Answer::now(AlterUserScramCredentialsResponse { results: results.collect(), ..Default::default() })
}

fn make(state: &mut State, user: &str, change: Change) {
    match change {
        Change::Remove(hash) => drop(state.security.remove_scram(hash, user)),
        Change::Set(hash, credential) => state.security.set_scram(hash, user, credential),
    }
}

fn removal(state: &State, from: &Caller, user: &str, mechanism: i8) -> Result<Change, Reject> {
    let hash = check(state, from, user, mechanism)?;
    match state.security.scram(hash, user) {
        Some(_) => Ok(Change::Remove(hash)),
        None => Err(Reject::new(ErrorCode::ResourceNotFound, "this user has no such credential")),
    }
}

fn setting(state: &State, from: &Caller, asked: &ScramCredentialUpsertion) -> Result<Change, Reject> {
    let hash = check(state, from, &asked.name, asked.mechanism)?;
    let iterations = u32::try_from(asked.iterations).ok().filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(n));
    let iterations = iterations.ok_or_else(|| {
        let message = format!("a password is hashed {ITERATIONS_MIN} to {ITERATIONS_MAX} times");
        Reject::new(ErrorCode::UnacceptableCredential, message)
    })?;
    Ok(Change::Set(
        hash,
        ScramCredential::of_salted(hash, asked.salted_password.to_vec(), asked.salt.to_vec(), iterations),
    ))
}

fn check(state: &State, from: &Caller, user: &str, mechanism: i8) -> Result<ScramHash, Reject> {
    from.check_fault(Part::Named(user))?;
    from.check_access(state, Operation::Alter, To::Cluster)?;
    if user.is_empty() {
        return Err(Reject::new(ErrorCode::UnacceptableCredential, "a user needs a name"));
    }
    let unknown = || Reject::new(ErrorCode::UnsupportedSaslMechanism, "there is no such SCRAM mechanism");
    ScramHash::from_code(mechanism).ok_or_else(unknown)
}
