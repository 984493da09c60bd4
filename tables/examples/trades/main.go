// Command trades appends trades to a table from several goroutines, summarizes them in SQL, corrects a trade, and reads
// the trade's state before the correction.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/filter"
)

// Trade is a row. Its fields are the columns.
type Trade struct {
	ID    int64     `arrow:"id"`
	At    time.Time `arrow:"at"`
	Sym   string    `arrow:"sym"`
	Price float64   `arrow:"price"`
	Size  *int64    `arrow:"size"` // nil is null
}

func main() {
	if err := run(context.Background(), os.Stdout, "trades-store"); err != nil {
		fmt.Fprintln(os.Stderr, "trades:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, dir string) (err error) {
	engine, err := duck.New(nil) // only for SQL
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	store, err := tables.Open(ctx, dir, &tables.Options{Engine: engine})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	nyse := store.Bucket("NYSE")

	// Each goroutine appends a hundred trades, ten at a time.
	group, groupCtx := errgroup.WithContext(ctx)
	for g, sym := range []string{"AAPL", "BRK.B", "MSFT", "XOM"} {
		group.Go(func() error {
			for from := range 10 {
				if _, err := tables.Append(groupCtx, nyse.Table("trades"), tradesOf(sym, 100*g+10*from, 10)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}

	type Sum struct {
		Sym    string
		Trades int64
		Mean   float64
	}
	sums, err := store.Query(ctx, `select sym as "Sym", count(*) as "Trades", avg(price) as "Mean" from trades group by all order by all`,
		&tables.QueryOptions{Bucket: "NYSE"})
	if err != nil {
		return err
	}
	for s, err := range tables.RowsOf[Sum](sums) {
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d trades at %.2f\n", s.Sym, s.Trades, s.Mean)
	}

	snapshot, err := nyse.Snapshot(ctx, "close of business")
	if err != nil {
		return err
	}
	before := time.Now()
	time.Sleep(2 * time.Millisecond) // AtTime distinguishes versions by milliseconds
	corrected := tradesOf("AAPL", 7, 1)
	corrected[0].Price = 99.5
	rows, err := tables.Records(corrected)
	if err != nil {
		return err
	}
	defer rows.Release()
	if _, err := nyse.Table("trades").Upsert(ctx, rows, &tables.UpsertOptions{Keys: []string{"id"}}); err != nil {
		return err
	}

	for _, state := range []struct {
		name string
		at   tables.At
	}{{"now", nil}, {"in the snapshot", tables.AtSnapshot(snapshot)}, {"before the correction", tables.AtTime(before)}} {
		table, err := nyse.Table("trades").At(ctx, state.at)
		if err != nil {
			return err
		}
		for t, err := range tables.Rows[Trade](ctx, table, &tables.ScanOptions{Filter: filter.Eq("id", 7)}) {
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "trade %d %s: %s at %.2f\n", t.ID, state.name, t.Sym, t.Price)
		}
	}
	return nil
}

// tradesOf returns sample trades; your program would use real trades.
func tradesOf(sym string, from, n int) []Trade {
	trades := make([]Trade, n)
	for i := range trades {
		id := int64(from + i)
		trades[i] = Trade{id, time.Date(2026, 1, 2, 9, 30, from+i, 0, time.UTC), sym, 100 + float64(id%10)/4, new(100 + id)}
	}
	return trades
}
