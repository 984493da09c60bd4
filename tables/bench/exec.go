//go:build cgo && unix

package main

import (
	"fmt"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// measureExec measures the INSERT of the rows of an ordered table and an UPDATE of 1 % of them, and compares INSERTs of
// single rows with appends.
func (b *bench) measureExec() error {
	return b.withSQL(&duck.Options{TempDir: b.dir}, tables.Options{}, func(s *tables.Store) error {
		exec := func(sql string, wantRows int) error {
			r, err := s.Exec(b.ctx, sql, &tables.ExecOptions{Bucket: "b"})
			if err == nil && r.Rows != int64(wantRows) {
				err = fmt.Errorf("%s changed %d rows, want %d", sql, r.Rows, wantRows)
			}
			return err
		}
		const parts = 100
		partRows := b.rows / parts
		if err := exec("CREATE TABLE ticks (ts TIMESTAMP, sym VARCHAR, price DOUBLE)", 0); err != nil {
			return err
		}
		if err := s.Bucket("b").Table("ticks").SetSettings(b.ctx, tables.Settings{Time: "ts", Partition: tables.PartitionDay}); err != nil {
			return err
		}
		insert := fmt.Sprintf(`INSERT INTO ticks SELECT TIMESTAMP '2026-01-01' + to_days((i // %d)::INT) + to_microseconds(i %% %[1]d), 'S' || i %% 100, i / 8
			FROM range(%d) r(i)`, partRows, parts*partRows)
		elapsed, err := seconds(func() error { return exec(insert, parts*partRows) })
		if err != nil {
			return err
		}
		b.report(fmt.Sprintf("INSERT … SELECT of %d ordered rows", parts*partRows), "tables", elapsed, 1)
		if err := b.measureUpdate(s, exec, partRows); err != nil {
			return err
		}
		return b.compareInsert(s, exec)
	})
}

// measureUpdate measures an UPDATE of the rows of one day. If this rewrites files of other days, it returns an error.
func (b *bench) measureUpdate(s *tables.Store, exec func(string, int) error, partRows int) error {
	before, err := b.dataFiles(s)
	if err != nil {
		return err
	}
	day := 0
	elapsed, err := b.median(func() error {
		day++
		where := fmt.Sprintf("ts >= TIMESTAMP '2026-01-01' + to_days(%d) AND ts < TIMESTAMP '2026-01-01' + to_days(%[1]d + 1)", day)
		return exec("UPDATE ticks SET price = price + 1 WHERE "+where, partRows)
	})
	if err != nil {
		return err
	}
	after, err := b.dataFiles(s)
	if err != nil {
		return err
	}
	kept := 0
	for path := range after {
		if before[path] {
			kept++
		}
	}
	if kept != len(before)-b.rounds {
		return fmt.Errorf("%d updates of one file each kept %d of %d files", b.rounds, kept, len(before))
	}
	b.report("UPDATE of 1 % of the ordered rows", "tables", elapsed, b.rounds)
	return nil
}

func (b *bench) dataFiles(s *tables.Store) (map[string]bool, error) {
	p, err := s.Bucket("b").Table("ticks").ScanPlan(b.ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	paths := map[string]bool{}
	for _, f := range p.Files {
		paths[f.Path] = true
	}
	return paths, nil
}

// compareInsert compares appends of single rows with INSERTs.
func (b *bench) compareInsert(s *tables.Store, exec func(string, int) error) error {
	const n, job = 100, "1 row by an append, and by an INSERT"
	row := trades(0, 1)
	if err := b.put(s, "trades", nil, row); err != nil {
		return err
	}
	medians, err := inTurns(b.rounds, 0,
		func() error { return b.repeat(n, func(int) error { return b.put(s, "trades", nil, row) }) },
		func() error {
			return b.repeat(n, func(int) error { return exec("INSERT INTO trades BY NAME SELECT 'S1' AS sym, 1.5 AS price", 1) })
		},
		func() error {
			return b.repeat(n, func(int) error { return exec("INSERT INTO trades (sym, price) VALUES ('S1', 1.5)", 1) })
		})
	if err != nil {
		return err
	}
	for i, contender := range []string{"tables", "INSERT … SELECT", "INSERT … VALUES"} {
		b.report(job, contender, medians[i]/n, b.rounds)
	}
	return nil
}
