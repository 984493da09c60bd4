// Command shuffle groups 200 MB of events by user within 64 MiB of memory and prints the
// users with the longest stays.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/go-partd/partd/shuffle"
)

// Event is the record that the program groups. Its fields may be any data: numbers,
// strings, times, slices, maps, other structs.
type Event struct {
	User string
	At   time.Time
	Page string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, events(2_400_000)); err != nil {
		fmt.Fprintln(os.Stderr, "shuffle:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, in iter.Seq2[Event, error]) error {
	type stay struct {
		user   string
		events int
		length time.Duration
	}
	var stays []stay
	byUser := func(e Event) string { return e.User }
	for group, err := range shuffle.GroupBy(ctx, in, byUser, &shuffle.Options[Event]{Memory: 64 << 20}) {
		if err != nil {
			return err
		}
		var firstAt, lastAt time.Time
		n := 0
		for e, err := range group.Values {
			if err != nil {
				return err
			}
			if n == 0 {
				firstAt = e.At
			}
			lastAt, n = e.At, n+1 // a group's values keep the order of the input, which is ordered by time
		}
		stays = append(stays, stay{group.Key, n, lastAt.Sub(firstAt)})
	}
	slices.SortFunc(stays, func(a, b stay) int {
		return cmp.Or(cmp.Compare(b.length, a.length), cmp.Compare(a.user, b.user))
	})
	fmt.Fprintln(out, len(stays), "users; the longest stays:")
	for _, s := range stays[:min(3, len(stays))] {
		fmt.Fprintln(out, s.user, s.events, s.length)
	}
	return nil
}

// events stands in for your own input, such as a file, a database or a queue. If reading your
// input fails, yield the error, which ends the shuffle.
func events(n int) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		random := rand.New(rand.NewPCG(1, 1))
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for i := range n {
			e := Event{
				User: fmt.Sprintf("user-%05d", random.IntN(50_000)),
				At:   start.Add(time.Duration(i) * time.Second),
				Page: fmt.Sprintf("/shop/articles/%08d/reviews?sort=newest&page=%d", random.IntN(1e8), random.IntN(100)),
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}
