package tabletest

import (
	"context"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	icebergio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
)

// Engine commits to a table as another program would.
type Engine struct {
	t            testing.TB
	s            *tables.Store
	bucket, name string
}

// NewEngine returns an engine for a table of s.
func NewEngine(t testing.TB, s *tables.Store, bucket, name string) Engine {
	return Engine{t, s, bucket, name}
}

// Files returns the table's files.
func (e Engine) Files() []table.FileScanTask {
	e.t.Helper()
	loaded, err := e.LoadTable(e.t.Context(), nil)
	if err != nil {
		e.t.Fatal(err)
	}
	tasks, err := loaded.Scan().PlanFiles(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return tasks
}

// LoadTable loads the table for a transaction.
func (e Engine) LoadTable(ctx context.Context, ident table.Identifier) (*table.Table, error) {
	t, err := partdiceberg.Load(ctx, e.s.Bucket(e.bucket).Table(e.name), nil)
	if err != nil {
		return nil, err
	}
	return table.New(ident, t.Metadata(), t.MetadataLocation(), icebergio.LoadFSFunc(nil, t.MetadataLocation()), e), nil
}

// CommitTable commits a transaction.
func (e Engine) CommitTable(ctx context.Context, _ table.Identifier, r []table.Requirement, u []table.Update) (table.Metadata, string, error) {
	changed, err := partdiceberg.Commit(ctx, e.s, partdiceberg.Change{Bucket: e.bucket, Table: e.name, Requirements: r, Updates: u})
	if err != nil {
		return nil, "", err
	}
	return changed[0].Metadata(), changed[0].MetadataLocation(), nil
}

// Commit commits the changes that do adds to a transaction.
func (e Engine) Commit(do func(*table.Transaction) error) {
	e.t.Helper()
	t, err := e.LoadTable(e.t.Context(), table.Identifier{e.bucket, e.name})
	if err != nil {
		e.t.Fatal(err)
	}
	tx := t.NewTransaction()
	if err = do(tx); err == nil {
		_, err = tx.Commit(e.t.Context())
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// Update commits updates without requirements.
func (e Engine) Update(updates ...table.Update) {
	e.t.Helper()
	if _, _, err := e.CommitTable(e.t.Context(), nil, nil, updates); err != nil {
		e.t.Fatal(err)
	}
}

// MergeOnRead makes later deletes and upserts write delete files: position delete files in format version 2, and
// deletion vectors in version 3.
func (e Engine) MergeOnRead(version int) {
	e.t.Helper()
	e.Commit(func(tx *table.Transaction) error {
		if version > 2 {
			if err := tx.UpgradeFormatVersion(version); err != nil {
				return err
			}
		}
		return tx.SetProperties(iceberg.Properties{table.WriteDeleteModeKey: table.WriteModeMergeOnRead, "write.merge.mode": table.WriteModeMergeOnRead})
	})
}

// Delete deletes the rows for which where is true.
func (e Engine) Delete(where iceberg.BooleanExpression) {
	e.t.Helper()
	e.Commit(func(tx *table.Transaction) error { return tx.Delete(e.t.Context(), where, nil) })
}

// DeleteEqual deletes the rows that equal a row in the columns with the given IDs.
func (e Engine) DeleteEqual(rows arrow.RecordBatch, ids ...int) {
	e.t.Helper()
	e.Commit(func(tx *table.Transaction) error {
		files, err := tx.WriteEqualityDeletes(e.t.Context(), ids, func(yield func(arrow.RecordBatch, error) bool) { yield(rows, nil) })
		if err != nil {
			return err
		}
		return tx.NewRowDelta(nil).AddDeletes(files...).Commit(e.t.Context())
	})
}
