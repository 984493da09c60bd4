package flightd

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
)

func TestMain(m *testing.M) { procs.Roles{"server": serveToBeKilled}.Main(m) }

// serveToBeKilled is the main function of the server process that TestKill kills. Its argument is the store's
// directory.
func serveToBeKilled(args []string) error {
	store, err := tables.Open(context.Background(), args[0], &tables.Options{FoldAge: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	s, err := New(store, nil)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return s.Serve(context.Background(), l)
}

// readCounts returns the number of rows for each value in a table. All rows of a put have the same value.
func readCounts(ctx context.Context, c flight.Client, name string) (map[float64]int, error) {
	st, err := c.DoGet(ctx, &flight.Ticket{Ticket: []byte(`{"name":"` + name + `"}`)})
	if err != nil {
		return nil, err
	}
	r, err := flight.NewRecordReader(st)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	counts := map[float64]int{}
	for r.Next() {
		for _, v := range r.RecordBatch().Column(0).(*array.Float64).Float64Values() {
			counts[v]++
		}
	}
	return counts, r.Err()
}

// TestKill checks that a server that is killed while clients read and write loses no acknowledged put, and
// that readers never see only part of a put.
func TestKill(t *testing.T) {
	rounds := procs.Kills(t, 3)
	const clients, rows = 8, 7 // rows in each of the two batches of a put
	dir := t.TempDir()
	var acknowledged [clients][]float64
	var sent [clients]float64
	start := func() (p *procs.Process, address string) {
		p = procs.Start(t, procs.Command("server", dir))
		address, ok := p.Line()
		if !ok {
			t.Fatal(p.Wait())
		}
		return p, address
	}
	name := func(i int) string { return "t" + strconv.Itoa(i%4) }
	checkComplete := func(counts map[float64]int) error {
		for v, n := range counts {
			if n != 2*rows {
				return fmt.Errorf("put %v has %d rows, want %d", v, n, 2*rows)
			}
		}
		return nil
	}
	for round := range rounds {
		p, address := start()
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				c := dialTest(t, address)
				for {
					sent[i]++
					value := sent[i]*clients + float64(i)
					if err := putValue(t.Context(), c, name(i), value, rows); err != nil {
						return
					}
					acknowledged[i] = append(acknowledged[i], value)
				}
			})
			wg.Go(func() {
				c := dialTest(t, address)
				for {
					counts, err := readCounts(t.Context(), c, name(i))
					if err != nil && !strings.Contains(err.Error(), "does not exist") {
						return
					}
					must.Check(t, checkComplete(counts))
				}
			})
		}
		time.Sleep(time.Duration(100+37*(round%10)) * time.Millisecond)
		p.Kill()
		wg.Wait()
		must.Do(t, must.Get(tables.Open(t.Context(), dir, nil))(t).Close())
	}
	_, address := start()
	c := dialTest(t, address)
	total := 0
	for i := range clients {
		counts, err := readCounts(t.Context(), c, name(i))
		if err != nil && (len(acknowledged[i]) > 0 || !strings.Contains(err.Error(), "does not exist")) {
			t.Fatal(err)
		}
		must.Do(t, checkComplete(counts))
		total += len(acknowledged[i])
		lost := slices.DeleteFunc(slices.Clone(acknowledged[i]), func(v float64) bool { return counts[v] > 0 })
		if len(lost) > 0 {
			t.Errorf("%d of %d acknowledged puts of client %d were lost", len(lost), len(acknowledged[i]), i)
		}
	}
	if total == 0 {
		t.Error("no put was acknowledged, so nothing was tested")
	}
	t.Logf("%d puts were acknowledged in %d rounds", total, rounds)
}
