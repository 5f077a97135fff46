"""What tools ask when they connect, by tool: each a query in the tool's manner, and what its rows must be."""


def has(*values):
    """Some row begins with each of these."""
    return lambda rows: set(values) <= {row[0] for row in rows}


# Whether a schema is on the search path, without asking the server for it as a list.
ON_PATH = """quote_ident(table_schema) IN (
  SELECT CASE WHEN trim(parts[n]) = '"$user"' THEN user ELSE trim(parts[n]) END
  FROM generate_series(
    array_lower(string_to_array(current_setting('search_path'), ','), 1),
    array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS n,
    string_to_array(current_setting('search_path'), ',') parts)"""

STARTUP = {
    # Its data source for PostgreSQL: the version, then lists of schemas, tables and columns for the query builder.
    "Grafana": [
        ("SELECT current_setting('server_version_num')::int / 100 AS version", lambda rows: rows == [(1600,)]),
        ("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'", lambda rows: rows == []),
        ("SELECT schema_name AS name FROM information_schema.schemata WHERE schema_name NOT IN ('information_schema', 'pg_catalog') ORDER BY schema_name",
         has("bronze", "silver", "gold", "ops")),
        ("SELECT quote_ident(table_name) AS \"table\" FROM information_schema.tables WHERE quote_ident(table_schema) = 'gold' ORDER BY 1",
         has("fraud_scores", "platform_hourly")),
        ("""SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns
            WHERE CASE WHEN array_length(parse_ident('gold.fraud_scores'), 1) = 2
              THEN quote_ident(table_schema) = (parse_ident('gold.fraud_scores'))[1]
                AND quote_ident(table_name) = (parse_ident('gold.fraud_scores'))[2]
              ELSE quote_ident(table_name) = 'gold.fraud_scores' END""",
         lambda rows: {"transaction_id": "text", "score": "integer"}.items() <= {name: kind for name, kind in rows}.items()
         or dict(rows)),
        ("""SELECT floor(extract(epoch FROM event_at) / 3600) * 3600 AS time, sum(amount) AS amount FROM silver.transactions
            WHERE event_at BETWEEN '2000-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z' GROUP BY 1 ORDER BY 1""", len),
        ("SELECT 1", lambda rows: rows == [(1,)]),
    ],
    # By the JDBC driver.
    "Metabase": [
        ("SET extra_float_digits = 2",),
        ("SET application_name = 'Metabase v0.55.1'",),
        ("SHOW TRANSACTION ISOLATION LEVEL", has("repeatable read")),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",),
        ("""SELECT nspname AS "TABLE_SCHEM", current_database() AS "TABLE_CATALOG" FROM pg_catalog.pg_namespace
            WHERE nspname <> 'pg_toast' AND (nspname !~ '^pg_temp_' OR nspname = (pg_catalog.current_schemas(true))[1])
            ORDER BY "TABLE_SCHEM" """, has("gold", "silver")),
        ("""WITH privileges AS (
              SELECT NULL AS role, t.schemaname AS schema, t.objectname AS table,
                pg_catalog.has_any_column_privilege(current_user, '"' || replace(t.schemaname, '"', '""') || '"' || '.' || '"' || replace(t.objectname, '"', '""') || '"', 'select') AS select
              FROM (SELECT schemaname, tablename AS objectname FROM pg_catalog.pg_tables
                    UNION SELECT schemaname, viewname AS objectname FROM pg_catalog.pg_views
                    UNION SELECT schemaname, matviewname AS objectname FROM pg_catalog.pg_matviews) t
              WHERE t.schemaname !~ '^pg_' AND t.schemaname <> 'information_schema'
                AND pg_catalog.has_schema_privilege(current_user, t.schemaname, 'usage'))
            SELECT p.schema, p.table FROM privileges p WHERE p.select""", lambda rows: ("gold", "fraud_scores") in rows),
        ("""SELECT n.nspname AS schema, c.relname AS name,
                CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE NULL END AS type,
                d.description, stat.n_live_tup AS estimated_row_count
            FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid
            LEFT JOIN pg_catalog.pg_description AS d ON c.oid = d.objoid AND d.objsubid = '0' AND d.classoid = 'pg_class'::regclass
            LEFT JOIN pg_stat_user_tables AS stat ON n.nspname = stat.schemaname AND c.relname = stat.relname
            WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'f', 'm') AND n.nspname IN ('gold')
            ORDER BY type, schema, name""", lambda rows: ("gold", "fraud_scores", "TABLE") in [row[:3] for row in rows]),
        ("show timezone", has("UTC")),
    ],
    "DBeaver": [
        ("SET application_name = 'DBeaver 25.1.5 - Main <assay>'",),
        ("SELECT current_schema(), session_user", lambda rows: rows == [("silver", "ana")]),
        ("""SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n
            LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass
            ORDER BY nspname""", len),
        ("SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datname = 'assay'", len),
        ("SELECT * FROM pg_catalog.pg_settings WHERE name = 'standard_conforming_strings'", len),
        ("SHOW search_path", has("silver")),
        ("SELECT * FROM pg_catalog.pg_enum WHERE 1 <> 1 LIMIT 1", lambda rows: rows == []),
        ("""SELECT t.oid, t.*, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name, d.description
            FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid = t.typelem
            LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
            LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid = d.objoid
            WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c')""", len),
    ],
}
