//! Who may sign in.

use super::*;
use crate::support::so_many_wait;

#[tokio::test]
async fn an_admin_lets_somebody_in_changes_them_and_shuts_them_out() {
    let stage = OpsStage::new().await;
    let new = json!({"email": "Dora@Example.com", "role": "viewer", "password": "a password of hers"});
    let made = stage.post("users", new.clone()).await.expect(201)["data"].clone();
    assert_eq!((&made["email"], &made["role"]), (&json!("dora@example.com"), &json!("viewer")));
    stage.post("users", new).await.refusal(409, "CONFLICT");
    let faults =
        stage.post("users", json!({"email": "x", "role": "root", "password": "short"})).await.faults();
    assert_eq!(faults.len(), 3);

    let path = format!("users/{}", made["id"].as_str().unwrap());
    let sign_in = json!({"email": "dora@example.com", "password": "a password of hers", "kind": "token"});
    let session =
        Answer::to(stage.api.request(Method::POST, "/api/v1/session").json(&sign_in)).await.expect(200);
    let token = session["data"]["token"].as_str().unwrap().to_owned();
    let overview = || stage.api.request(Method::GET, "/api/v1/ops/overview").bearer_auth(&token);
    Answer::to(overview()).await.expect(200);

    let change = |body: Value| stage.ask(Method::PATCH, &path).json(&body);
    assert_eq!(Answer::to(change(json!({"role": "operator"}))).await.expect(200)["data"]["role"], "operator");
    Answer::to(overview()).await.expect(200);
    assert_eq!(Answer::to(change(json!({"enabled": false}))).await.expect(200)["data"]["enabled"], false);
    Answer::to(overview()).await.refusal(401, "UNAUTHORIZED");
    Answer::to(stage.api.request(Method::POST, "/api/v1/session").json(&sign_in))
        .await
        .refusal(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn the_last_admin_stays_one_also_when_two_remove_each_other() {
    let stage = OpsStage::new().await;
    let change = |id: String| {
        let request = stage.ask(Method::PATCH, &format!("users/{id}"));
        Answer::to(request.json(&json!({"role": "viewer"})))
    };
    change(stage.admin.id.to_string()).await.refusal(409, "CONFLICT");
    let other = TestPerson::named(&stage.db, Role::Admin, "other@example.com").await;
    let own = other.sign(stage.api.request(Method::PATCH, &format!("/api/v1/ops/users/{}", stage.admin.id)));
    // Nobody goes on before both have begun.
    let mut gate = db::begin(stage.db.pool()).await.unwrap();
    sqlx::raw_sql("select from people for update").execute(&mut *gate).await.unwrap();
    let opening = async {
        so_many_wait(stage.db.pool(), 2).await;
        gate.rollback().await.unwrap();
    };
    let removed = change(other.id.to_string());
    let (one, two, ()) = tokio::join!(removed, Answer::to(own.json(&json!({"role": "viewer"}))), opening);
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    // The second is refused: as last admin, or because its own role is gone by then.
    assert_eq!(statuses[0], 200);
    assert!([403, 409].contains(&statuses[1]), "{statuses:?}");
    let admins: i64 = sqlx::query_scalar("select count(*) from people where role = 'admin'")
        .fetch_one(stage.db.pool())
        .await
        .unwrap();
    assert_eq!(admins, 1);
}
