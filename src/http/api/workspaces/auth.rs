//! Sign-in, second factor, token refresh, sign-out.

use super::authentication::{
    CSRF_HEADER, authenticate, check_csrf, deny_and_audit, refuse_repeated_cookie, uses_cookie,
};
use super::cookies;
use super::dto::Message;
use super::dto::auth::{
    ConfirmAnswer, ConfirmTotp, EnrollTotp, Enrolled, Login, LoginAnswer, Logout, MfaDue,
    MfaVerify, Refresh, SignInRecord, SignedIn, TotpSecret,
};
use super::dto::user::Me;
use super::error_body::{Problem, error_response};
use super::responses::ok;
use crate::broker::model::{EnrollAs, SignIn, Tokens};
use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::secret::SecretString;
use crate::domain::{Error, ErrorKind};
use crate::http::cookie_header::RequestCookie;
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Authenticated, JsonBody, OptionalJsonBody, PathId, RequestMeta};
use crate::http::metrics::{Metrics, SignInOutcome};
use crate::http::origin::{BrowserOrigin, classify_origin};
use crate::http::state::AppState;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

/// Signs in with the first factor.
///
/// An unknown address and a wrong password get the same response, in the same time.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", operation_id = "login", request_body = Login,
    params(("X-Portcullis-Session" = Option<String>, Header, description = "`cookie`: keep the tokens in cookies")),
    responses((status = 200, body = LoginAnswer), (status = 401, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
pub async fn login(
    req: HttpRequest,
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    JsonBody(body): JsonBody<Login>,
) -> ApiResult {
    refuse_foreign_origin(&req, &state).await?;
    let outcome = count_failure(
        &state.metrics,
        state
            .broker
            .passwords()
            .sign_in(&source, known_browser(&req).await?.as_ref(), &body.email, &body.password)
            .await,
    )?;
    match outcome {
        SignIn::Done(tokens) => {
            state.metrics.count_sign_in(SignInOutcome::Success);
            Ok(token_response(&req, &tokens, LoginAnswer::SignedIn))
        }
        SignIn::MfaRequired { token, enrollment_required, expires_in } => {
            state.metrics.count_sign_in(SignInOutcome::MfaDue);
            ok(LoginAnswer::MfaDue(MfaDue::new(&token, enrollment_required, expires_in)))
        }
    }
}

/// Signs in with the second factor.
///
/// A code works once.
#[utoipa::path(post, path = "/api/auth/mfa/verify", tag = "auth", operation_id = "verifyMfa", request_body = MfaVerify,
    params(("X-Portcullis-Session" = Option<String>, Header, description = "`cookie`: keep the tokens in cookies")),
    responses((status = 200, body = SignedIn), (status = 401, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
pub async fn mfa_verify(
    req: HttpRequest,
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    JsonBody(body): JsonBody<MfaVerify>,
) -> ApiResult {
    refuse_foreign_origin(&req, &state).await?;
    let verified = match body.check_method() {
        Ok(()) => {
            state
                .broker
                .totp()
                .verify(
                    &source,
                    known_browser(&req).await?.as_ref(),
                    &body.mfa_token,
                    body.code.expose(),
                )
                .await
        }
        Err(unknown) => Err(unknown),
    };
    let tokens = count_failure(&state.metrics, verified)?;
    state.metrics.count_sign_in(SignInOutcome::Success);
    Ok(token_response(&req, &tokens, |answer| answer))
}

/// Creates a TOTP secret; it is active once a code confirms it.
#[utoipa::path(post, path = "/api/auth/mfa/totp/enroll", tag = "auth", operation_id = "enrollTotp", request_body = EnrollTotp,
    responses((status = 200, body = TotpSecret), (status = 401, body = Problem), (status = 409, description = "Already enrolled", body = Problem)),
    security((), ("bearer" = []), ("cookie" = [])))]
pub async fn totp_enroll(
    req: HttpRequest,
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    OptionalJsonBody(body): OptionalJsonBody<EnrollTotp>,
) -> ApiResult {
    let enrollment = match &body.mfa_token {
        Some(token) => state.broker.totp().enroll(&source, EnrollAs::MfaToken(token)).await?,
        None => {
            state
                .broker
                .totp()
                .enroll(&source, EnrollAs::SignedIn(&authenticate(&req).await?))
                .await?
        }
    };
    ok(TotpSecret::from(enrollment))
}

/// Confirms a TOTP secret with a code from the app.
#[utoipa::path(post, path = "/api/auth/mfa/totp/confirm", tag = "auth", operation_id = "confirmTotp", request_body = ConfirmTotp,
    params(("X-Portcullis-Session" = Option<String>, Header, description = "`cookie`: keep the tokens in cookies")),
    responses((status = 200, body = ConfirmAnswer), (status = 401, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem)),
    security((), ("bearer" = []), ("cookie" = [])))]
pub async fn totp_confirm(
    req: HttpRequest,
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    JsonBody(body): JsonBody<ConfirmTotp>,
) -> ApiResult {
    if let Some(token) = &body.mfa_token {
        refuse_foreign_origin(&req, &state).await?;
        let confirmed = state
            .broker
            .totp()
            .confirm(
                &source,
                known_browser(&req).await?.as_ref(),
                EnrollAs::MfaToken(token),
                body.code.expose(),
            )
            .await;
        let tokens = count_failure(&state.metrics, confirmed)?.ok_or_else(|| {
            ApiError::from(Error::internal("no tokens after an enrolment by token"))
        })?;
        state.metrics.count_sign_in(SignInOutcome::Success);
        return Ok(token_response(&req, &tokens, ConfirmAnswer::SignedIn));
    }
    let caller = authenticate(&req).await?;
    state
        .broker
        .totp()
        .confirm(&source, None, EnrollAs::SignedIn(&caller), body.code.expose())
        .await?;
    let mut user = Enrolled {
        message: "Second factor enrolled".to_owned(),
        user: (&signed_in(&caller)?.user).into(),
    };
    user.user.mfa_enrolled = true;
    ok(ConfirmAnswer::Enrolled(user))
}

/// The user of a principal: an API key has no login.
fn signed_in(principal: &Principal) -> ApiResult<&SignedInUser> {
    principal.user().ok_or_else(|| Error::forbidden("Only a signed-in user can do this.").into())
}

/// Refreshes the tokens.
///
/// A refresh token works once; reusing one ends its login.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "auth", operation_id = "refresh", request_body = Refresh,
    params(("X-Portcullis-Session" = Option<String>, Header, description = "`cookie`: keep the tokens in cookies")),
    responses((status = 200, body = SignedIn), (status = 401, body = Problem), (status = 403, body = Problem)))]
pub async fn refresh(
    req: HttpRequest,
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    OptionalJsonBody(body): OptionalJsonBody<Refresh>,
) -> ApiResult {
    if let Some(token) = body.refresh_token {
        let tokens = state.broker.logins().refresh(&source, &token, None).await?;
        return Ok(token_response(&req, &tokens, |answer| answer));
    }
    let access = cookies::read(&req, cookies::ACCESS);
    let token = match (cookies::read(&req, cookies::REFRESH), access) {
        (RequestCookie::Repeated, _) | (_, RequestCookie::Repeated) => {
            return refuse_repeated_cookie(&req).await;
        }
        (RequestCookie::Once(token), _) => SecretString::new(token.to_owned()),
        // Another site's page can send neither this header nor the cookies of a login.
        (RequestCookie::Missing, _)
            if req.headers().contains_key(CSRF_HEADER) && cookies::has_any(&req) =>
        {
            return Ok(remove_cookies(error_response(&ApiError::unauthenticated())));
        }
        (RequestCookie::Missing, _) => return Err(ApiError::unauthenticated()),
    };
    check_csrf(&req, None).await?;
    let beside = match access {
        RequestCookie::Once(access) => Some(access),
        RequestCookie::Missing | RequestCookie::Repeated => None,
    };
    match state.broker.logins().refresh(&source, &token, beside).await {
        Ok(tokens) => Ok(response_with_cookies(&req, SignedIn::without_tokens(&tokens), &tokens)),
        Err(error) if error.kind == ErrorKind::Unauthenticated => {
            Ok(remove_cookies(error_response(&ApiError::from(error))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends this login and its streams; its desktops keep running. `everywhere` ends every login and
/// every session of the user.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", operation_id = "logout", request_body = Logout,
    responses((status = 200, body = Message), (status = 401, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn logout(
    req: HttpRequest,
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    OptionalJsonBody(body): OptionalJsonBody<Logout>,
) -> ApiResult {
    state.broker.logins().logout(&source, &caller, body.everywhere).await?;
    let answer = HttpResponse::Ok().json(Message { message: "Signed out".to_owned() });
    Ok(if uses_cookie(&req) { remove_cookies(answer) } else { answer })
}

/// The signed-in user, and the second factor verified in this login.
#[utoipa::path(get, path = "/api/auth/me", tag = "auth", operation_id = "me",
    responses((status = 200, body = Me), (status = 401, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn me(Authenticated(caller): Authenticated) -> ApiResult {
    ok(Me::from(signed_in(&caller)?))
}

/// The caller's newest logins, including ended ones.
#[utoipa::path(get, path = "/api/auth/logins", tag = "auth", operation_id = "listLogins",
    responses((status = 200, body = [SignInRecord]), (status = 401, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn logins(state: web::Data<AppState>, Authenticated(caller): Authenticated) -> ApiResult {
    let logins = state.broker.logins().list(&caller).await?;
    ok(logins.into_iter().map(SignInRecord::from).collect::<Vec<_>>())
}

/// Ends another login of the caller and its streams; its desktops keep running.
#[utoipa::path(post, path = "/api/auth/logins/{id}/sign-out", tag = "auth", operation_id = "endLogin", params(("id" = String, Path, description = "Sign-in")),
    responses((status = 200, body = Message), (status = 401, body = Problem), (status = 404, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn end_login(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    state.broker.logins().revoke(&source, &caller, id.login()?).await?;
    ok(Message { message: "Signed out".to_owned() })
}

/// The cookie of a known browser, if it has one.
async fn known_browser(req: &HttpRequest) -> ApiResult<Option<SecretString>> {
    match cookies::read(req, cookies::KNOWN_BROWSER) {
        RequestCookie::Missing => Ok(None),
        RequestCookie::Once(value) => Ok(Some(SecretString::new(value.to_owned()))),
        RequestCookie::Repeated => refuse_repeated_cookie(req).await,
    }
}

/// A foreign page may not sign a browser in.
async fn refuse_foreign_origin(req: &HttpRequest, state: &AppState) -> ApiResult<()> {
    if cookies::wants_cookies(req)
        && classify_origin(req, &state.settings.public_origins) == BrowserOrigin::Foreign
    {
        return deny_and_audit(req, None, "foreign_origin").await;
    }
    Ok(())
}

/// Tokens in the body, or in cookies in cookie mode.
fn token_response<T: Serialize>(
    req: &HttpRequest,
    tokens: &Tokens,
    wrap: impl FnOnce(SignedIn) -> T,
) -> HttpResponse {
    if cookies::wants_cookies(req) {
        response_with_cookies(req, wrap(SignedIn::without_tokens(tokens)), tokens)
    } else {
        HttpResponse::Ok().json(wrap(SignedIn::with_tokens(tokens)))
    }
}

fn response_with_cookies(req: &HttpRequest, body: impl Serialize, tokens: &Tokens) -> HttpResponse {
    let known = tokens.known_browser.as_ref().map(cookies::known_browser_cookie);
    let more = known.into_iter().chain(cookies::old_refresh_removal(req));
    let mut response = HttpResponse::Ok();
    for cookie in cookies::token_cookies(tokens).into_iter().chain(more) {
        response.cookie(cookie);
    }
    response.json(body)
}

fn remove_cookies(mut answer: HttpResponse) -> HttpResponse {
    for cookie in cookies::removal_cookies() {
        // INVARIANT: constant cookies always encode.
        let _ = answer.add_cookie(&cookie);
    }
    answer
}

fn count_failure<T>(
    metrics: &Metrics,
    outcome: crate::domain::Result<T>,
) -> crate::domain::Result<T> {
    if let Err(error) = &outcome {
        metrics.count_sign_in(match error.kind {
            ErrorKind::Throttled(_) => SignInOutcome::Throttled,
            ErrorKind::Unavailable | ErrorKind::Tampered | ErrorKind::Internal => {
                SignInOutcome::Error
            }
            ErrorKind::Malformed
            | ErrorKind::Invalid
            | ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Conflict => SignInOutcome::Refused,
        });
    }
    outcome
}
