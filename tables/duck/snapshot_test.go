//go:build cgo

package duck_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
)

// TestAtSnapshot queries a snapshot that exists in two buckets, but not in a third.
func TestAtSnapshot(t *testing.T) {
	s := newStore(t, nil)
	for _, bucket := range []string{"", "it's", "c"} {
		put(t, s, bucket, "t", numbers(0, 2))
		if bucket == "c" {
			break
		}
		if _, err := s.Bucket(bucket).Snapshot(t.Context(), "a \"b\"'"); err != nil {
			t.Fatal(err)
		}
		put(t, s, bucket, "t", numbers(100, 105))
	}
	if err := s.Bucket("it's").Delete(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	o := &tables.QueryOptions{At: tables.AtSnapshot("a \"b\"'")}
	expect(t, s, `SELECT (SELECT count(*) FROM t) + 10 * (SELECT count(*) FROM "it's".T) AS n`, o, "22")
	for sql, want := range map[string]string{"SELECT * FROM c.t": "no snapshot of that name", "SELECT * FROM nothing": `"nothing"`} {
		if _, err := rows(t, s, sql, o); !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want ErrNotFound with %s", sql, err, want)
		}
	}
	if _, err := rows(t, s, "SELECT * FROM t", &tables.QueryOptions{At: tables.AtSnapshot("none")}); !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), "no snapshot of that name") {
		t.Errorf(`query of a missing snapshot: error = %v, want tables.ErrNotFound with the text "no snapshot of that name"`, err)
	}
}

func TestVersions(t *testing.T) {
	s := newStore(t, nil)
	for i := range int64(3) {
		put(t, s, "b", "t", numbers(i*10, i*10+10))
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, "b", "t", numbers(30, 31))
	table := s.Bucket("b").Table("t")
	versions, err := table.Versions(t.Context())
	if err != nil || len(versions) != 4 {
		t.Fatalf("Versions = %+v, %v; want 3 versions, and one of the row in the tail", versions, err)
	}
	for i, v := range versions {
		expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b", At: tables.AtVersion(v.Version)}, fmt.Sprint(min(10*(i+1), 31)))
	}
	expect(t, s, "SELECT count(*) FROM b.t", nil, "31")
	if _, err := rows(t, s, "SELECT count(*) FROM b.t", &tables.QueryOptions{At: tables.AtVersion(99)}); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("query of a missing version: error = %v, want tables.ErrNotFound", err)
	}
	// All rows of a statement are of the same moment, also if the rows are still in the tail.
	time.Sleep(3 * time.Millisecond)
	moment := time.Now()
	time.Sleep(3 * time.Millisecond)
	put(t, s, "b", "t", numbers(31, 40))
	o := &tables.QueryOptions{Bucket: "b", At: tables.AtTime(moment), Before: tables.AtVersion(versions[2].Version)}
	expect(t, s, `SELECT (SELECT count(*) FROM t) + 100 * (SELECT count(*) FROM before.b.t) + 10000 * (SELECT count(*) FROM changes.b.t) AS n`, o, "13031")
	expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"}, "40")
	var inexact *tables.MomentError
	if _, err := rows(t, s, "SELECT * FROM t", &tables.QueryOptions{Bucket: "b", At: tables.AtTime(time.Time{}.AddDate(2000, 0, 0))}); !errors.As(err, &inexact) {
		t.Fatalf("query of a moment before the table: error = %v, want a MomentError", err)
	}
	expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b", At: tables.AtTime(inexact.After)}, "10")
}
