//! DescribeUserScramCredentials (50), version 0.
//!
//! Does: which users have SCRAM credentials, with mechanisms and iterations; those asked for, or all (KIP-554).
//! Leaves out: nothing.
//! Differs from Apache Kafka: users come in the order of the request, or sorted.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::security::scram::ScramHash;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_user_scram_credentials_request::DescribeUserScramCredentialsRequest;
use crate::wire::generated::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
};
use indexmap::IndexMap;
use std::collections::BTreeSet;

pub(super) fn describe_user_scram_credentials(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: DescribeUserScramCredentialsRequest,
) -> Answer {
    if let Err(reject) = from.check_access(state, Operation::Describe, To::Cluster) {
        let error_code = reject.code.code();
        // A row for everybody who was asked about, who all remain unnamed.
        let rows = request.users.into_iter().flatten();
        let row = |_| DescribeUserScramCredentialsResult { error_code, error_message: None, ..Default::default() };
        let results = rows.map(row).collect();
        return Answer::now(DescribeUserScramCredentialsResponse {
            error_code,
            error_message: None,
            results,
            ..Default::default()
        });
    }
    let mut times_named: IndexMap<Str, u32> = IndexMap::new();
    for user in request.users.unwrap_or_default() {
        *times_named.entry(user.name).or_default() += 1;
    }
    if times_named.is_empty() {
        let all: BTreeSet<&str> = state.security.scram_users().collect();
        times_named = all.into_iter().map(|user| (Str::from(user), 1)).collect();
    }
    let results = times_named.into_iter().map(|(user, times)| match describe(state, &user, times) {
        Ok(credential_infos) => DescribeUserScramCredentialsResult { user, credential_infos, ..Default::default() },
        Err(reject) => DescribeUserScramCredentialsResult {
            user,
            error_code: reject.code.code(),
            error_message: message(&reject),
            ..Default::default()
        },
    });
    Answer::now(DescribeUserScramCredentialsResponse { results: results.collect(), ..Default::default() })
}

fn describe(state: &State, user: &str, times: u32) -> Result<Vec<CredentialInfo>, Reject> {
    if times > 1 {
        return Err(Reject::new(ErrorCode::DuplicateResource, "the request names this user twice"));
    }
    let infos = ScramHash::ALL.into_iter().filter_map(|hash| {
        let credential = state.security.scram(hash, user)?;
        let iterations = i32::try_from(credential.iterations).unwrap_or(i32::MAX);
        Some(CredentialInfo { mechanism: hash.code(), iterations })
    });
    let infos: Vec<_> = infos.collect();
    if infos.is_empty() {
        return Err(Reject::new(ErrorCode::ResourceNotFound, "this user has no SCRAM credentials"));
    }
    Ok(infos)
}
