package shuffle_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/shuffle"
)

type Shop struct {
	City, Name string
}

func cities(ctx context.Context, orders iter.Seq2[Sale, error], shops iter.Seq2[Shop, error]) error {
	o := &shuffle.JoinOptions[Sale, Shop]{Kind: shuffle.LeftJoin}
	for row, err := range shuffle.Join(ctx, orders, shops, func(s Sale) string { return s.City }, func(s Shop) string { return s.City }, o) {
		if err != nil {
			return err
		}
		fmt.Println(row.Left.Price, row.HasRight, row.Right.Name)
	}
	return nil
}

func ExampleJoin() {
	orders := shuffle.Values(Sale{City: "Oslo", Price: 3}, Sale{City: "Rome", Price: 5})
	check(cities(context.Background(), orders, shuffle.Values(Shop{"Oslo", "Fisk"}, Shop{"Oslo", "Brød"})))
	// Unordered output:
	// 3 true Fisk
	// 3 true Brød
	// 5 false
}

func work(ctx context.Context, store partd.Partd, task string, batches iter.Seq[[]partd.Entry]) error {
	w, err := shuffle.Begin(ctx, store, task, "") // "" generates a name for the attempt
	if errors.Is(err, shuffle.ErrCommitted) {
		return nil // another attempt has committed the task
	}
	if err != nil {
		return err
	}
	for batch := range batches {
		if err := w.Append(ctx, batch...); err != nil {
			return err
		}
	}
	return w.Commit(ctx)
}

func read(ctx context.Context, store partd.Partd, tasks []string) error {
	c, err := shuffle.WaitCommitted(ctx, store, &shuffle.WaitOptions{Tasks: tasks, Timeout: time.Hour})
	if err != nil {
		return err // a *shuffle.MissingError says which tasks are missing
	}
	for e, err := range c.Scan(ctx) { // the pieces of a key are consecutive
		if err != nil {
			return err
		}
		fmt.Printf("%s %s\n", e.Key, e.Value)
	}
	return nil
}

// A worker dies, and another attempt does its task.
func ExampleBegin() {
	ctx := context.Background()
	store := partd.NewDict()
	batches := func(yield func([]partd.Entry) bool) {
		_ = yield([]partd.Entry{{Key: "fruit", Value: []byte("apple")}}) && yield([]partd.Entry{{Key: "fruit", Value: []byte("pear")}})
	}
	dead, err := shuffle.Begin(ctx, store, "file 1", "")
	check(err)
	check(dead.Append(ctx, partd.Entry{Key: "fruit", Value: []byte("apple")}))
	check(work(ctx, store, "file 1", batches))
	check(work(ctx, store, "file 1", batches)) // does nothing, because the task has already committed
	check(read(ctx, store, []string{"file 1"}))
	// Output:
	// fruit apple
	// fruit pear
}

// Each reader reads one part. Together, the readers verify that they have read everything.
func ExampleCommitted_ScanPart() {
	ctx := context.Background()
	store := partd.NewDict()
	for _, task := range []string{"a", "b", "c"} {
		w, err := shuffle.Begin(ctx, store, task, "")
		check(err)
		check(w.Append(ctx, partd.Entry{Key: "from " + task, Value: []byte("x")}))
		check(w.Commit(ctx))
	}
	c, err := shuffle.ReadCommitted(ctx, store)
	check(err)
	sums := make([]shuffle.Checksum, 2) // one for each reader
	for part := range sums {
		for _, err := range c.ScanPart(ctx, part, len(sums), &sums[part]) {
			check(err)
		}
	}
	fmt.Println(c.Verify(sums...))
	// Output: <nil>
}
