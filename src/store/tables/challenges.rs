//! MFA challenges: the first factor was verified, and the second must be verified or enrolled. Only
//! the hash of a challenge's token is stored.

use super::{corrupt_value, parse_text};
use crate::domain::{Result, Timestamp, UserId};
use crate::store::schema::mfa_challenges;
use crate::store::transaction::Tx;
use diesel::prelude::*;
use uuid::Uuid;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChallengePurpose {
    Verify,
    Enroll,
}

impl ChallengePurpose {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Enroll => "enroll",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Verify, Self::Enroll].into_iter().find(|p| p.as_str() == word)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    pub id: Uuid,
    pub token_hash: String,
    pub user_id: UserId,
    pub purpose: ChallengePurpose,
    pub tries: i32,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = mfa_challenges)]
struct ChallengeRow {
    id: String,
    token_hash: String,
    user_id: String,
    purpose: String,
    tries: i32,
    created_at: i64,
    expires_at: i64,
}

impl Tx<'_> {
    pub fn insert_challenge(&mut self, challenge: &Challenge) -> Result<()> {
        let row = ChallengeRow {
            id: challenge.id.hyphenated().to_string(),
            token_hash: challenge.token_hash.clone(),
            user_id: challenge.user_id.to_string(),
            purpose: challenge.purpose.as_str().to_owned(),
            tries: challenge.tries,
            created_at: challenge.created_at.0,
            expires_at: challenge.expires_at.0,
        };
        diesel::insert_into(mfa_challenges::table).values(row).execute(self.conn)?;
        Ok(())
    }

    /// The challenge of a token; the caller checks its expiry.
    pub fn challenge(&mut self, token_hash: &str) -> Result<Option<Challenge>> {
        let query = mfa_challenges::table
            .filter(mfa_challenges::token_hash.eq(token_hash))
            .select(ChallengeRow::as_select());
        let row: Option<ChallengeRow> = query.first(self.conn).optional()?;
        row.map(|row| {
            Ok(Challenge {
                id: parse_text(&row.id, "challenge id")?,
                token_hash: row.token_hash,
                user_id: parse_text(&row.user_id, "user id")?,
                purpose: ChallengePurpose::parse(&row.purpose)
                    .ok_or_else(|| corrupt_value("purpose"))?,
                tries: row.tries,
                expires_at: Timestamp(row.expires_at),
                created_at: Timestamp(row.created_at),
            })
        })
        .transpose()
    }

    /// Counts an attempt; false when `max` attempts were made, or the challenge is gone.
    pub fn consume_attempt(&mut self, id: Uuid, max: i32) -> Result<bool> {
        let left = mfa_challenges::table
            .find(id.hyphenated().to_string())
            .filter(mfa_challenges::tries.lt(max));
        Ok(diesel::update(left)
            .set(mfa_challenges::tries.eq(mfa_challenges::tries + 1))
            .execute(self.conn)?
            == 1)
    }

    /// Deletes a challenge: of two that race, one wins.
    pub fn delete_challenge(&mut self, id: Uuid) -> Result<bool> {
        Ok(diesel::delete(mfa_challenges::table.find(id.hyphenated().to_string()))
            .execute(self.conn)?
            == 1)
    }
}
