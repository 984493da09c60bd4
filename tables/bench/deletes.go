//go:build cgo && unix

package main

import (
	"fmt"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/filter"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
)

// useVectors sets a table's properties so that corrections of it write deletion vectors.
func (b *bench) useVectors(s *tables.Store, name string) error {
	properties := iceberg.Properties{"write.merge.mode": table.WriteModeMergeOnRead, table.WriteDeleteModeKey: table.WriteModeMergeOnRead}
	_, err := partdiceberg.Commit(b.ctx, s, partdiceberg.Change{Bucket: "b", Table: name, Updates: []table.Update{
		table.NewUpgradeFormatVersionUpdate(3), table.NewSetPropertiesUpdate(properties),
	}})
	return err
}

// measureDeletes compares queries of a table that has lost 1 % of its rows with queries of a table without deletions.
func (b *sqlBench) measureDeletes() error {
	return b.withSQL(&duck.Options{TempDir: b.dir}, tables.Options{}, func(s *tables.Store) error {
		for _, name := range []string{"plain", "deleted"} {
			if err := b.put(s, name, nil, trades(0, b.rows)); err != nil {
				return err
			}
		}
		if err := b.useVectors(s, "deleted"); err != nil {
			return err
		}
		result, err := s.Bucket("b").Table("deleted").DeleteRows(b.ctx, filter.Lt("size", 10))
		if err != nil || result.Deleted < int64(b.rows)/200 {
			return fmt.Errorf("deleted %d rows, want 1 %% of %d: %w", result.Deleted, b.rows, err)
		}
		for _, sql := range []string{"SELECT count(*) FROM %s", "SELECT sum(price) FROM %s", filterQuery} {
			rounds := 10 * b.rounds
			medians, err := inTurns(rounds, 0,
				func() error { return b.query(b.ctx, s, fmt.Sprintf(sql, "deleted")) },
				func() error { return b.query(b.ctx, s, fmt.Sprintf(sql, "plain")) })
			if err != nil {
				return err
			}
			job := fmt.Sprintf(sql, fmt.Sprintf("%d rows", b.rows))
			b.report(job, "tables, 1 % deleted", medians[0], rounds)
			b.report(job, "none deleted", medians[1], rounds)
			fmt.Printf("%s: %.2f × as long with deleted rows\n", job, medians[0]/medians[1])
		}
		return nil
	})
}
