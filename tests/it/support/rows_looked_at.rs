use db::Pool;

/// Rows of the queue's tables that a pool of one connection has looked at: by scans of tables, and entries of their
/// indexes.
pub async fn rows_looked_at(connection: &Pool) -> i64 {
    sqlx::query_scalar!(r#"select pg_stat_force_next_flush()::text as "flushed""#)
        .fetch_one(connection)
        .await
        .unwrap();
    sqlx::query_scalar!(
        r#"select (
               (select coalesce(sum(seq_tup_read), 0) from pg_stat_user_tables where relname like 'job%')
               + (select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes where relname like 'job%')
           )::bigint as "n!""#
    )
    .fetch_one(connection)
    .await
    .unwrap()
}
