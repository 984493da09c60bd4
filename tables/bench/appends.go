//go:build cgo && unix

package main

import (
	"fmt"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// appendsBench measures appends to our tables.
type appendsBench struct {
	*bench
	streamRows int
}

// measureOne compares acknowledged appends of single rows with pyiceberg's commits of one row.
func (b *appendsBench) measureOne() error {
	const n, job = 500, "append 1 row, acknowledged"
	row := trades(0, 1)
	for i, contender := range []string{"tables", "tables, synced"} {
		elapsed, err := b.medianInStore(&tables.Options{Sync: i == 1, FoldAge: -1}, func(s *tables.Store) (float64, error) {
			if err := b.put(s, "t", nil, row); err != nil {
				return 0, err
			}
			return seconds(func() error { return repeat(n, func(int) error { return b.put(s, "t", nil, row) }) })
		})
		if err != nil {
			return err
		}
		b.report(job, contender, elapsed/n, b.rounds)
	}
	return b.reportPeers("one", []string{"pyiceberg"}, func(peer, _ string) (string, string) { return job, peer })
}

// measureMany measures how long it takes to create many tables of one row each, and then to append a row to each.
func (b *appendsBench) measureMany() error {
	row := trades(0, 1)
	for _, n := range []int{1, 1000, 10_000} {
		err := b.withStore(&tables.Options{FoldAge: -1}, func(s *tables.Store) error {
			for _, job := range []string{"create each of %d tables with 1 row", "append 1 row to each of %d tables"} {
				elapsed, err := seconds(func() error {
					return repeat(n, func(i int) error { return b.put(s, fmt.Sprint("t", i), nil, row) })
				})
				if err != nil {
					return err
				}
				b.report(fmt.Sprintf(job, n), "tables", elapsed/float64(n), 1)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// measureGrowing appends rows to one table and reports the time per append as the table grows.
func (b *appendsBench) measureGrowing() error {
	return b.withStore(&tables.Options{}, func(s *tables.Store) error {
		row := trades(0, 1)
		appended := 0
		for _, upTo := range []int{1, 10, 100, 1000, 10_000} {
			n := upTo - appended
			elapsed, err := seconds(func() error { return repeat(n, func(int) error { return b.put(s, "t", nil, row) }) })
			if err != nil {
				return err
			}
			b.report(fmt.Sprintf("append rows %d to %d of a table", appended+1, upTo), "tables", elapsed/float64(n), 1)
			appended = upTo
		}
		return nil
	})
}

// measureBulk appends many rows at once and reads one column with a filter. Its peers are pyarrow,
// DuckDB, pyiceberg, DuckLake, Quack, and DuckDB's Iceberg reader on our files.
func (b *appendsBench) measureBulk() error {
	batch := trades(0, b.rows)
	if err := b.writeRows(batch); err != nil {
		return err
	}
	var readSeconds float64
	appendSeconds, err := b.medianInStore(nil, func(s *tables.Store) (elapsed float64, err error) {
		elapsed, err = seconds(func() error { return b.put(s, "t", nil, batch) })
		if err != nil {
			return elapsed, err
		}
		readSeconds, err = b.median(func() error { return b.scan(s) })
		return elapsed, err
	})
	if err != nil {
		return err
	}
	jobs := map[string]string{"append": fmt.Sprintf("append %d rows at once", b.rows), "read": fmt.Sprintf("read a column of %d rows by a filter", b.rows)}
	b.report(jobs["append"], "tables", appendSeconds, b.rounds)
	b.report(jobs["read"], "tables", readSeconds, b.rounds)
	describe := func(peer, name string) (string, string) { return jobs[name], peer }
	if err := b.reportPeers("bulk", []string{"pyarrow", "duckdb", "pyiceberg", "ducklake", "quack"}, describe); err != nil {
		return err
	}
	return b.withStore(nil, func(s *tables.Store) error {
		if err := b.put(s, "t", nil, batch); err != nil {
			return err
		}
		metadata, err := b.iceberg(s)
		if err != nil {
			return err
		}
		return b.reportPeers("bulk", []string{"duckiceberg"}, describe, metadata)
	})
}

func (b *appendsBench) scan(s *tables.Store) error {
	condition, err := filter.Parse("sym = 'S7' and price > 50")
	if err != nil {
		return err
	}
	t := s.Bucket("b").Table("t")
	r, err := t.Scan(b.ctx, &tables.ScanOptions{Columns: []string{"price"}, Filter: condition})
	if err != nil {
		return err
	}
	defer r.Release()
	for r.Next() {
	}
	return r.Err()
}

// measureStream is like DuckLake's streaming benchmark: it appends rows like those of ClickBench's table
// hits in batches of 10. Each batch is synced before its append returns.
func (b *appendsBench) measureStream() error {
	const size = 10
	batch := hits(0, size, 1_000_000)
	elapsed, err := b.medianInStore(&tables.Options{Sync: true}, func(s *tables.Store) (float64, error) {
		elapsed, err := seconds(func() error {
			return repeat(b.streamRows/size, func(int) error { return b.put(s, "hits", nil, batch) })
		})
		if err != nil {
			return 0, err
		}
		t := s.Bucket("b").Table("hits")
		info, err := t.Info(b.ctx)
		if err == nil && info.Rows != int64(b.streamRows/size*size) {
			err = fmt.Errorf("the table has %d rows, want %d", info.Rows, b.streamRows)
		}
		return elapsed, err
	})
	if err != nil {
		return err
	}
	job := fmt.Sprintf("append %d rows of %d columns, synced", size, batch.NumCols())
	b.report(job, "tables", elapsed*size/float64(b.streamRows), b.rounds)
	if err := b.writeRows(batch); err != nil {
		return err
	}
	return b.reportPeers("stream", []string{"duckdb", "ducklake", "quack", "pyiceberg"}, func(_, name string) (string, string) { return job, name })
}
