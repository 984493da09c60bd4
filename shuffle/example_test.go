package shuffle_test

import (
	"context"
	"fmt"
	"iter"
	"log"
	"slices"
	"sync"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/shuffle"
)

// check ends an example if err is not nil. A real program would return the error instead.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

type sale struct {
	City  string
	Item  string
	Price int
}

var sales = []sale{
	{"Oslo", "skis", 90}, {"Rome", "fan", 20}, {"Oslo", "hat", 10}, {"Rome", "hat", 15}, {"Bonn", "hat", 12}, {"Oslo", "hat", 11},
}

type Sale = sale

func totals(ctx context.Context, sales iter.Seq2[Sale, error]) error {
	city := func(s Sale) string { return s.City }
	sum := shuffle.Accumulator[Sale, int]{
		Add:   func(total *int, s Sale) { *total += s.Price },
		Merge: func(total, other *int) { *total += *other },
	}
	for r, err := range shuffle.Aggregate(ctx, sales, city, sum, &shuffle.Options[Sale]{Memory: 1 << 30}) {
		if err != nil {
			return err
		}
		fmt.Println(r.Key, r.Value)
	}
	return nil
}

// This example sets the memory limit.
func ExampleOptions() {
	check(totals(context.Background(), shuffle.Values(sales...)))
	// Unordered output:
	// Oslo 111
	// Rome 35
	// Bonn 12
}

// This example uses a codec of package encode, for records that the default codec does not support, or
// that other programs must read from the store.
func ExampleDefaultCodec() {
	ctx := context.Background()
	type event struct {
		User string
		Data any
	}
	events := []event{{"ada", "login"}, {"bob", 3.5}, {"ada", []any{"a", "b"}}}
	opts := &shuffle.Options[event]{Codec: encode.JSON[event]()}
	for group, err := range shuffle.GroupBy(ctx, shuffle.Values(events...), func(e event) string { return e.User }, opts) {
		check(err)
		list, err := shuffle.Collect(group.Values)
		check(err)
		fmt.Println(group.Key, list)
	}
	// Unordered output:
	// ada [{ada login} {ada [a b]}]
	// bob [{bob 3.5}]
}

func ExampleSort() {
	by := shuffle.By(
		shuffle.Asc(func(s sale) string { return s.City }),
		shuffle.Desc(func(s sale) int { return s.Price }),
	)
	for s, err := range shuffle.Sort(context.Background(), shuffle.Values(sales...), by, nil) {
		check(err)
		fmt.Println(s.City, s.Item, s.Price)
	}
	// Output:
	// Bonn hat 12
	// Oslo skis 90
	// Oslo hat 11
	// Oslo hat 10
	// Rome fan 20
	// Rome hat 15
}

// This example prints the two most expensive items of each city. Sorting by the city first groups
// the records by city, and the records of a city need not fit in memory. A median can be computed in the
// same way.
func ExampleSort_firstOfEach() {
	by := shuffle.By(
		shuffle.Asc(func(s sale) string { return s.City }),
		shuffle.Desc(func(s sale) int { return s.Price }),
	)
	city, n := "", 0
	for s, err := range shuffle.Sort(context.Background(), shuffle.Values(sales...), by, nil) {
		check(err)
		if s.City != city {
			city, n = s.City, 0
		}
		if n++; n <= 2 {
			fmt.Println(s.City, s.Item, s.Price)
		}
	}
	// Output:
	// Bonn hat 12
	// Oslo skis 90
	// Oslo hat 11
	// Rome fan 20
	// Rome hat 15
}

func ExampleGroupBy() {
	city := func(s sale) string { return s.City }
	for g, err := range shuffle.GroupBy(context.Background(), shuffle.Values(sales...), city, nil) {
		check(err)
		line := g.Key + ":"
		for s, err := range g.Values {
			check(err)
			line += " " + s.Item
		}
		fmt.Println(line)
	}
	// Unordered output:
	// Oslo: skis hat hat
	// Rome: fan hat
	// Bonn: hat
}

func ExampleAggregate() {
	type total struct{ Count, Sum int }
	city := func(s sale) string { return s.City }
	acc := shuffle.Accumulator[sale, total]{
		Add:   func(t *total, s sale) { t.Count++; t.Sum += s.Price },
		Merge: func(t, other *total) { t.Count += other.Count; t.Sum += other.Sum },
	}
	for r, err := range shuffle.Aggregate(context.Background(), shuffle.Values(sales...), city, acc, nil) {
		check(err)
		fmt.Println(r.Key, r.Value.Count, r.Value.Sum)
	}
	// Unordered output:
	// Oslo 3 111
	// Rome 2 35
	// Bonn 1 12
}

func ExamplePartition() {
	item := func(s sale) string { return s.Item }
	parts, err := shuffle.Partition(context.Background(), shuffle.Values(sales...), 4, item, nil)
	check(err)
	defer parts.Close()
	records := 0
	for n := range 4 {
		list, err := shuffle.Collect(parts.Records(n))
		check(err)
		records += len(list)
	}
	fmt.Println(records, "records; verified:", parts.Verify() == nil)
	// Output: 6 records; verified: true
}

func ExamplePartitionBy() {
	city := func(s sale) string { return s.City }
	parts, err := shuffle.PartitionBy(context.Background(), shuffle.Values(sales...), city, nil)
	check(err)
	defer parts.Close()
	rome, err := shuffle.Collect(parts.Records("Rome"))
	check(err)
	fmt.Println(rome)
	// Output: [{Rome fan 20} {Rome hat 15}]
}

func ExampleDistinct() {
	items := shuffle.Values("hat", "fan", "hat", "skis", "fan")
	for item, err := range shuffle.Distinct(context.Background(), items, nil) {
		check(err)
		fmt.Println(item)
	}
	// Unordered output:
	// hat
	// fan
	// skis
}

func ExampleDistinctBy() {
	city := func(s sale) string { return s.City }
	for s, err := range shuffle.DistinctBy(context.Background(), shuffle.Values(sales...), city, nil) {
		check(err)
		fmt.Println(s.City, s.Item)
	}
	// Unordered output:
	// Oslo skis
	// Rome fan
	// Bonn hat
}

func ExampleTopK() {
	dearest := shuffle.By(shuffle.Desc(func(s sale) int { return s.Price }))
	for s, err := range shuffle.TopK(context.Background(), shuffle.Values(sales...), 2, dearest, nil) {
		check(err)
		fmt.Println(s.Item, s.Price)
	}
	// Output:
	// skis 90
	// fan 20
}

// In this example, several goroutines feed one sorter.
func ExampleNewSorter() {
	s, err := shuffle.NewSorter(context.Background(), shuffle.By(shuffle.Asc(func(n int) int { return n })), nil)
	check(err)
	defer s.Close()
	var wg sync.WaitGroup
	for part := range slices.Chunk([]int{5, 3, 9, 1, 7, 2}, 2) {
		wg.Go(func() {
			feed, err := s.Feed()
			check(err)
			for _, n := range part {
				check(feed.Add(n))
			}
			check(feed.Close())
		})
	}
	wg.Wait()
	fmt.Println(shuffle.Collect(s.Sorted()))
	// Output: [1 2 3 5 7 9] <nil>
}

func ExampleFeedAll() {
	ctx := context.Background()
	monday, tuesday := shuffle.Values("ant", "bee", "ant"), shuffle.Values("bee", "ant")
	count := shuffle.Accumulator[string, int]{
		Add:   func(n *int, _ string) { *n++ },
		Merge: func(n, other *int) { *n += *other },
	}
	a, err := shuffle.NewAggregator(ctx, func(s string) string { return s }, count, nil)
	check(err)
	defer a.Close()
	check(shuffle.FeedAll(ctx, a, 2, monday, tuesday))
	for r, err := range a.Results() {
		check(err)
		fmt.Println(r.Key, r.Value)
	}
	// Unordered output:
	// ant 3
	// bee 2
}

func report(ctx context.Context, days []iter.Seq2[Sale, error]) error {
	g, err := shuffle.NewGrouper(ctx, func(s Sale) string { return s.City }, &shuffle.Options[Sale]{
		Progress: func(p shuffle.Progress) { log.Print(p.RecordsIn, " sales read, ", p.RecordsOut, " reported") },
	})
	if err != nil {
		return err
	}
	defer g.Close()
	if err := shuffle.FeedAll(ctx, g, 4, days...); err != nil {
		return err
	}
	return g.ForEach(ctx, 4, func(ctx context.Context, city shuffle.Group[string, Sale]) error {
		total := 0
		for s, err := range city.Values {
			if err != nil {
				return err
			}
			total += s.Price
		}
		fmt.Println(city.Key, total)
		return nil
	})
}

func ExampleGrouper_ForEach() {
	days := []iter.Seq2[Sale, error]{shuffle.Values(sales[:3]...), shuffle.Values(sales[3:]...)}
	check(report(context.Background(), days))
	// Unordered output:
	// Oslo 111
	// Rome 35
	// Bonn 12
}
