package tables_test

import (
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// whileCommitting opens another store on b's directory and returns its bucket. The other store prepares its
// first commit, then calls change, which changes the table, and then commits.
func whileCommitting(t *testing.T, b *tables.Bucket, change func() error) *tables.Bucket {
	t.Helper()
	changing, attempts := countingAttempts(t, b, change)
	t.Cleanup(func() {
		if *attempts == 0 {
			t.Error("the other store did not commit")
		}
	})
	return changing
}

// countingAttempts is like whileCommitting, but also returns the number of times that the other store prepared a commit.
func countingAttempts(t *testing.T, b *tables.Bucket, change func() error) (*tables.Bucket, *int) {
	t.Helper()
	attempts := new(int)
	s, err := tables.OpenHooked(t.Context(), b.Store().Dir(), &tables.Options{NoTail: true}, tables.Hooks{FS: vfs.OS{}, OnPrepared: func() {
		if *attempts++; *attempts == 1 {
			if err := change(); err != nil {
				t.Error(err)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Bucket(b.Name()), attempts
}

func wantValues(t *testing.T, b *tables.Bucket, name string, want ...int64) {
	t.Helper()
	table := b.Table(name)
	rows, err := ticksFrom(table.Scan(t.Context(), nil))
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, r := range rows {
		got = append(got, r.v)
	}
	if !slices.Equal(got, want) {
		t.Errorf("table %q has values %v, want %v", name, got, want)
	}
}

// TestCompactDuringSettingsChange removes the time column from the settings while a compaction merges files in time
// order. Then the rows must be in the order of their puts.
func TestCompactDuringSettingsChange(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
	for _, rows := range [][]tick{{{ts: 3, v: 3}, {ts: 5, v: 5}}, {{ts: 1, v: 1}, {ts: 4, v: 4}}} {
		if _, err := b.Table("t").Put(t.Context(), ticksOf(rows, 10), tables.PutAppend, o); err != nil {
			t.Fatal(err)
		}
	}
	otherBucket := whileCommitting(t, b, func() error { return b.Table("t").SetSettings(t.Context(), tables.Settings{}) })
	if _, err := otherBucket.Store().Compact(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantValues(t, b, "t", 3, 5, 1, 4)
}

// TestCorrectDuringSettingsChange checks that if a table gets a rule for duplicates while a correction is in
// progress, the rule also applies to the correction's rows.
func TestCorrectDuringSettingsChange(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
	if _, err := b.Table("t").Put(t.Context(), ticksOf([]tick{{ts: 1, v: 1}, {ts: 9, v: 9}}, 10), tables.PutAppend, o); err != nil {
		t.Fatal(err)
	}
	otherBucket := whileCommitting(t, b, func() error {
		return b.Table("t").SetSettings(t.Context(), tables.Settings{Time: "ts", OnDuplicate: tables.KeepLast})
	})
	rows := ticksOf([]tick{{ts: 5, v: 5}, {ts: 5, v: 6}}, 10)
	if _, err := otherBucket.Table("t").ReplaceRange(t.Context(), time.Unix(4, 0), time.Unix(6, 0), rows, nil); err != nil {
		t.Fatal(err)
	}
	wantValues(t, b, "t", 1, 6, 9)
}
