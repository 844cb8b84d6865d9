//! Change notifications reach those whom they concern.

use super::fixture::*;
use portcullis::broker::core::changes::Topic;
use portcullis::broker::model::WorkspaceChange;
use portcullis::domain::user::Role;

on_both! {
    async fn session_changes_reach_owner_and_administrators(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let feed = fixture.broker.change_feed();
        let (mut owner, mut other, mut system) = (feed.subscribe(&ann), feed.subscribe(&bob), feed.subscribe(&fixture.system));
        fixture.launch(&ann, &ws).await;
        assert_eq!(owner.recv().await.unwrap(), Topic::Sessions);
        assert_eq!(owner.recv().await.unwrap(), Topic::Workspaces);
        assert_eq!(system.recv().await.unwrap(), Topic::Sessions);
        // The first change that concerns another user is one of the workspace.
        let change = WorkspaceChange { name: Some("Renamed".into()), ..WorkspaceChange::default() };
        fixture.broker.workspaces().update(&origin(), &fixture.system, &ws, change).await.unwrap();
        assert_eq!(other.recv().await.unwrap(), Topic::Workspaces);
    }

    async fn use_of_a_single_seat_reaches_everybody(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let single = WorkspaceChange { single_seat: Some(true), ..WorkspaceChange::default() };
        let ws = fixture.workspace("ws-a", single).await;
        let mut other = fixture.broker.change_feed().subscribe(&bob);
        fixture.launch(&ann, &ws).await;
        assert_eq!(other.recv().await.unwrap(), Topic::Workspaces);
        let seen = fixture.broker.workspaces().get(&bob, &ws).await.unwrap();
        assert_eq!(seen.status, portcullis::domain::workspace::WorkspaceStatus::InUse);
        let listed = fixture.broker.workspaces().list(&bob).await.unwrap();
        assert_eq!(listed[0].status, portcullis::domain::workspace::WorkspaceStatus::InUse);
    }
}
