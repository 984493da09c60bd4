package tables_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMergeIsHarmless merges files before or during a put that compares versions. The put must succeed at its first
// attempt.
func TestMergeIsHarmless(t *testing.T) {
	t.Parallel()
	over := func(b *tables.Bucket) error {
		_, err := b.Table("t").Put(t.Context(), tabletest.Rows(11, 12), tables.PutReplace, &tables.PutOptions{Over: new(tables.Version(2))})
		return err
	}
	for _, c := range []struct {
		name    string
		put     func(*tables.Bucket) error
		version int               // Iceberg's format version
		props   map[string]string // of the table
		order   []string          // key columns in the settings
		want    []int64
	}{
		{"replace a version", over, 2, nil, nil, []int64{3, 4, 11, 12}},
		{"replace a version with merged manifests", over, 2, map[string]string{table.ManifestMinMergeCountKey: "2"}, nil, []int64{3, 4, 11, 12}},
		{"replace a version with row IDs", over, 3, map[string]string{table.ManifestMinMergeCountKey: "2"}, nil, []int64{3, 4, 11, 12}},
		{"replace a version of an ordered table", over, 2, nil, []string{"n"}, []int64{3, 4, 11, 12}},
		{"append with a rule", func(b *tables.Bucket) error {
			return b.Store().Update(t.Context(), func(txn *tables.Txn) error {
				return txn.Put(b.Name(), "t", tabletest.Rows(11), tables.PutAppend, nil)
			})
		}, 2, nil, nil, []int64{1, 2, 3, 4, 11}},
	} {
		for _, before := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, before), func(t *testing.T) {
				b := tabletest.BucketWithoutTail(t)
				tabletest.PutRows(t, b, "t", tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Keys: c.order}})
				tabletest.NewEngine(t, b.Store(), b.Name(), "t").Commit(func(tx *table.Transaction) error {
					if c.version > 2 {
						tabletest.Succeed(t, tx.UpgradeFormatVersion(c.version))
					}
					return tx.SetProperties(c.props)
				})
				for n := range int64(3) {
					tabletest.Put(t, b, "t", tables.PutAppend, n+2)
				}
				if c.want[0] == 1 {
					tabletest.Succeed(t, b.Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "once", Kind: "unique", Columns: []string{"n"}, InTable: true}}}))
				}
				merge := func() error { _, err := b.Store().Compact(t.Context(), nil); return err }
				if before {
					tabletest.Succeed(t, merge())
					merge = func() error { return nil }
				}
				changing, attempts := countingAttempts(t, b, merge)
				if err := c.put(changing); err != nil || *attempts != 1 {
					t.Errorf("%d attempts, error %v; want 1 attempt", *attempts, err)
				}
				if got, err := tabletest.ReadAll(t.Context(), b.Table("t"), nil); err != nil || !slices.Equal(got, c.want) {
					t.Errorf("rows %v, error %v; want %v", got, err, c.want)
				}
				if info, err := b.Table("t").Info(t.Context()); err != nil || info.Rows != int64(len(c.want)) {
					t.Errorf("the table has %d rows, error %v; want %d", info.Rows, err, len(c.want))
				}
			})
		}
	}
}

// TestMaintainFindsChanges deletes or updates a row between the writing of the merged file and its commit. The change
// must survive.
func TestMaintainFindsChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*tables.Bucket) error{
		"delete": func(b *tables.Bucket) error {
			_, err := b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "n == 3"))
			return err
		},
		"upsert": func(b *tables.Bucket) error {
			_, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(3), &tables.UpsertOptions{Keys: []string{"n"}})
			return err
		},
		"delete file": func(b *tables.Bucket) error {
			tabletest.NewEngine(t, b.Store(), b.Name(), "t").Delete(iceberg.EqualTo(iceberg.Reference("n"), int64(3)))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := tabletest.BucketWithoutTail(t)
			for n := range int64(2) {
				tabletest.Put(t, b, "t", tables.PutAppend, 4*n, 4*n+1, 4*n+2, 4*n+3)
			}
			for n := range int64(6) {
				tabletest.Put(t, b, "t", tables.PutAppend, 8+n)
			}
			tabletest.NewEngine(t, b.Store(), b.Name(), "t").MergeOnRead(2)
			maintaining, attempts := countingAttempts(t, b, func() error { return change(b) })
			r := tabletest.Maintain(t, maintaining.Store(), nil)
			want := []int64{0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
			if name == "upsert" {
				want = append(want, 3)
			}
			got, err := tabletest.ReadAll(t.Context(), b.Table("t"), nil)
			slices.Sort(want)
			slices.Sort(got) // DeleteRows and Upsert move rows to the end
			if err != nil || !slices.Equal(got, want) || *attempts != 2 || r.FilesBefore < 7 {
				t.Errorf("Maintain = %+v after %d attempts: rows %v, error %v; want %v after 2 attempts", r, *attempts, got, err, want)
			}
		})
	}
}
