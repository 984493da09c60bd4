//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// reached are the tables, in a state, of those buckets that somebody wants and the
// caller may reach.
func (q *query) reached(ctx context.Context, at tables.At, wanted func(bucket string) bool) iter.Seq2[tables.TableInfo, error] {
	return func(yield func(tables.TableInfo, error) bool) {
		for b, err := range q.store.Buckets(ctx) {
			if err != nil {
				yield(tables.TableInfo{}, err)
				return
			}
			if !wanted(b) || tables.Reaches(ctx, b) != nil {
				continue
			}
			for info, err := range q.store.Bucket(b).Tables(ctx, &tables.Filter{Snapshot: at.Snapshot()}) {
				if err != nil && at.Snapshot() != "" && errors.Is(err, tables.ErrNotFound) {
					break // the bucket has no snapshot of this name
				}
				if !yield(info, err) || err != nil {
					return
				}
			}
		}
	}
}

var showTables = regexp.MustCompile(`(?i)^\s*SHOW\s+(ALL\s+)?TABLES\s*;?\s*$`)

// shown is the SELECT that SHOW TABLES stands for, which DuckDB cannot answer: it
// knows the tables that a statement names, and no others. Any other statement is as it
// was.
func (q *query) shown(ctx context.Context, sql string) (string, error) {
	const most, mostBytes = 100_000, 8 << 20
	form := showTables.FindStringSubmatch(sql)
	if form == nil {
		return sql, nil
	}
	rows, size := [][]any{}, 0
	for i, err := range q.reached(ctx, q.o.At, func(b string) bool { return form[1] != "" || b == q.o.Bucket }) {
		if err != nil {
			return "", err
		}
		if size += len(i.Bucket) + len(i.Name) + 64; len(rows) == most || size > mostBytes {
			return "", fmt.Errorf("there are more tables than SHOW lists, which is %d, or %d bytes of names: ask for those of one bucket", most, mostBytes)
		}
		rows = append(rows, []any{i.Bucket, i.Name, i.Rows, i.Bytes, i.Version, i.Updated.Truncate(time.Microsecond)})
	}
	list, err := json.Marshal(rows)
	return `SELECT value->>'$[0]' AS bucket, value->>'$[1]' AS name, (value->>'$[2]')::BIGINT AS rows, (value->>'$[3]')::BIGINT AS bytes,
		(value->>'$[4]')::BIGINT AS version, (value->>'$[5]')::TIMESTAMPTZ AS updated FROM json_each(` + sqlquote.Text(string(list)) + ") ORDER BY 1, 2", err
}
