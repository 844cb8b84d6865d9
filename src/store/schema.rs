//! The tables, for diesel; the migrations document them. A test compares the two.

diesel::table! {
    organizations (id) {
        id -> Text,
        name -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    users (id) {
        id -> Text,
        organization_id -> Text,
        email -> Text,
        email_key -> Text,
        name -> Text,
        role -> Text,
        password_hash -> Text,
        disabled -> Bool,
        created_at -> BigInt,
        last_login_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    totp (user_id) {
        user_id -> Text,
        sealed -> Text,
        created_at -> BigInt,
        confirmed_at -> Nullable<BigInt>,
        last_step -> BigInt,
    }
}

diesel::table! {
    mfa_challenges (id) {
        id -> Text,
        token_hash -> Text,
        user_id -> Text,
        purpose -> Text,
        tries -> Integer,
        created_at -> BigInt,
        expires_at -> BigInt,
    }
}

diesel::table! {
    logins (id) {
        id -> Text,
        user_id -> Text,
        organization_id -> Text,
        mfa_method -> Nullable<Text>,
        mfa_verified_at -> Nullable<BigInt>,
        created_at -> BigInt,
        expires_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
        source_ip -> Nullable<Text>,
        user_agent -> Nullable<Text>,
    }
}

diesel::table! {
    refresh_tokens (hash) {
        hash -> Text,
        login_id -> Text,
        created_at -> BigInt,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    workspaces (row_id) {
        row_id -> Text,
        id -> Text,
        organization_id -> Text,
        name -> Text,
        description -> Text,
        kind -> Text,
        icon -> Text,
        tags -> Text,
        requires_mfa -> Bool,
        single_seat -> Bool,
        network -> Bool,
        allowed_roles -> Text,
        maintenance -> Bool,
        created_at -> BigInt,
        updated_at -> BigInt,
        deleted_at -> Nullable<BigInt>,
        target_host -> Nullable<Text>,
        target_port -> Nullable<Integer>,
        target_direct -> Nullable<Text>,
        password_sealed -> Nullable<Text>,
        target_service -> Nullable<Text>,
        clipboard -> Text,
        files -> Bool,
        read_only -> Bool,
        server -> Text,
        web -> Text,
        session_limits -> Text,
    }
}

diesel::table! {
    workspace_certificates (workspace_row, standing) {
        workspace_row -> Text,
        standing -> Text,
        fingerprint -> Text,
        subject -> Text,
        at -> BigInt,
    }
}

diesel::table! {
    user_credentials (workspace_row, user_id) {
        workspace_row -> Text,
        user_id -> Text,
        sealed -> Text,
        updated_at -> BigInt,
    }
}

diesel::table! {
    hosts (id) {
        id -> Text,
        organization_id -> Text,
        name -> Text,
        public_key -> Text,
        address -> Text,
        endpoint -> Nullable<Text>,
        version -> Text,
        psk_sealed -> Text,
        enrolled_at -> BigInt,
        last_seen_at -> Nullable<BigInt>,
        kind -> Text,
        drained_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    join_tokens (hash) {
        hash -> Text,
        organization_id -> Text,
        name -> Nullable<Text>,
        created_at -> BigInt,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        organization_id -> Text,
        principal_kind -> Text,
        user_id -> Nullable<Text>,
        api_key_id -> Nullable<Text>,
        principal_name -> Text,
        login_id -> Nullable<Text>,
        workspace_id -> Text,
        workspace_name -> Text,
        workspace_kind -> Text,
        host_id -> Nullable<Text>,
        state -> Text,
        reason -> Nullable<Text>,
        address -> Text,
        mfa_method -> Nullable<Text>,
        mfa_verified_at -> Nullable<BigInt>,
        peer_public_key -> Nullable<Text>,
        created_at -> BigInt,
        started_at -> Nullable<BigInt>,
        ended_at -> Nullable<BigInt>,
        expires_at -> BigInt,
        version -> BigInt,
        way -> Text,
    }
}

diesel::table! {
    live_sessions (session_id) {
        session_id -> Text,
        organization_id -> Text,
        user_id -> Nullable<Text>,
        workspace_id -> Text,
        host_id -> Nullable<Text>,
        address -> Text,
        way -> Text,
        state -> Text,
        expires_at -> BigInt,
        created_at -> BigInt,
    }
}

diesel::table! {
    seats (seat) {
        seat -> Text,
        session_id -> Text,
    }
}

diesel::table! {
    session_leases (session_id) {
        session_id -> Text,
        peer_public_key -> Text,
        psk_sealed -> Text,
        port -> Integer,
        credential_sealed -> Text,
        certificate -> Nullable<Text>,
    }
}

diesel::table! {
    session_events (session_id, version) {
        session_id -> Text,
        version -> BigInt,
        state -> Text,
        reason -> Nullable<Text>,
        at -> BigInt,
    }
}

diesel::table! {
    tickets (hash) {
        hash -> Text,
        session_id -> Text,
        principal_kind -> Text,
        user_id -> Nullable<Text>,
        api_key_id -> Nullable<Text>,
        login_id -> Nullable<Text>,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    app_requests (session_id, seq) {
        session_id -> Text,
        seq -> BigInt,
        at -> BigInt,
        method -> Text,
        path -> Text,
        status -> Integer,
        bytes_in -> BigInt,
        bytes_out -> BigInt,
        duration_ms -> BigInt,
        ended -> Text,
    }
}

diesel::table! {
    app_request_counts (session_id) {
        session_id -> Text,
        last_seq -> BigInt,
    }
}

diesel::table! {
    audit_entries (seq) {
        seq -> BigInt,
        time -> BigInt,
        organization_id -> Nullable<Text>,
        actor_id -> Nullable<Text>,
        actor_email -> Nullable<Text>,
        actor_role -> Nullable<Text>,
        actor_type -> Nullable<Text>,
        action -> Text,
        target_type -> Nullable<Text>,
        target_id -> Nullable<Text>,
        target_name -> Nullable<Text>,
        outcome -> Text,
        reason -> Nullable<Text>,
        source_ip -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        session_id -> Nullable<Text>,
        workspace_id -> Nullable<Text>,
        request_id -> Nullable<Text>,
        details -> Text,
        prev_hash -> Text,
        hash -> Text,
    }
}

diesel::table! {
    audit_head (id) {
        id -> Integer,
        seq -> BigInt,
        hash -> Text,
        signature -> Text,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        sealed_private -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    gateway_lease (name) {
        name -> Text,
        holder -> Text,
        holder_name -> Text,
        lock_id -> Text,
        acquired_at -> BigInt,
        heartbeat_at -> BigInt,
        heartbeats -> BigInt,
    }
}

diesel::table! {
    settings (name) {
        name -> Text,
        value -> Text,
    }
}

diesel::joinable!(logins -> users (user_id));
diesel::joinable!(totp -> users (user_id));
diesel::joinable!(workspace_certificates -> workspaces (workspace_row));
diesel::joinable!(user_credentials -> workspaces (workspace_row));

diesel::allow_tables_to_appear_in_same_query!(logins, users);
diesel::allow_tables_to_appear_in_same_query!(totp, users);
diesel::allow_tables_to_appear_in_same_query!(live_sessions, sessions);
diesel::allow_tables_to_appear_in_same_query!(live_sessions, workspaces);
diesel::allow_tables_to_appear_in_same_query!(sessions, workspaces);
diesel::allow_tables_to_appear_in_same_query!(workspace_certificates, workspaces);
diesel::allow_tables_to_appear_in_same_query!(user_credentials, workspaces);
