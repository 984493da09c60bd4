package encode_test

import (
	"context"
	"fmt"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/encode"
)

var ctx = context.Background()

// check ends an example if err is not nil. A real program would return the error instead.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

type person struct {
	Name string `json:"name"`
	Age  int    `json:"age"`
}

func Example() {
	people := encode.New(partd.NewDict(), encode.JSON[[]person]())
	check(people.Append(ctx, encode.Entry[[]person]{Key: "FR", Value: []person{{"Ada", 36}, {"Blaise", 39}}}))
	check(people.Append(ctx, encode.Entry[[]person]{Key: "FR", Value: []person{{"Sophie", 55}}}))
	groups, err := people.Get(ctx, "FR", "DE")
	check(err)
	fmt.Println(groups[0], len(groups[1]))
	// Output: [{Ada 36} {Blaise 39} {Sophie 55}] 0
}

// All yields the appended values one by one, so a key may be larger than memory.
func ExampleStore_All() {
	people := encode.New(partd.NewDict(), encode.Gob[person]())
	check(people.Append(ctx, encode.Entry[person]{Key: "FR", Value: person{"Ada", 36}}, encode.Entry[person]{Key: "FR", Value: person{"Sophie", 55}}))
	for p, err := range people.All(ctx, "FR") {
		check(err)
		fmt.Println(p.Name)
	}
	// Output:
	// Ada
	// Sophie
}

// Scan yields each key with its values. ScanPart does the same for a part of the keys.
func ExampleStore_Scan() {
	people := encode.New(partd.NewDict(), encode.Gob[person]())
	check(people.Append(ctx, encode.Entry[person]{Key: "FR", Value: person{"Ada", 36}}, encode.Entry[person]{Key: "FR", Value: person{"Sophie", 55}}))
	for group, err := range people.Scan(ctx) {
		check(err)
		for p, err := range group.Values {
			check(err)
			fmt.Println(group.Key, p.Name)
		}
	}
	// Output:
	// FR Ada
	// FR Sophie
}

func ExampleBytes() {
	pages := encode.New(partd.NewDict(), encode.Bytes())
	check(pages.Append(ctx, encode.Entry[[]byte]{Key: "k", Value: []byte("one")}, encode.Entry[[]byte]{Key: "k", Value: []byte("two")}))
	for page, err := range pages.All(ctx, "k") {
		check(err)
		fmt.Printf("%s\n", page)
	}
	// Output:
	// one
	// two
}

func ExampleGob() {
	times := encode.New(partd.NewDict(), encode.Gob[[]time.Duration]())
	check(times.Append(ctx, encode.Entry[[]time.Duration]{Key: "k", Value: []time.Duration{time.Second, time.Minute}}))
	got, err := times.Get(ctx, "k")
	check(err)
	fmt.Println(got[0])
	// Output: [1s 1m0s]
}

// Python reads this store as partd.Python(partd.Dict()).
func ExamplePython() {
	lists := encode.New(partd.NewDict(), encode.Python())
	check(lists.Append(ctx, encode.Entry[[]any]{Key: "k", Value: []any{1, "text", map[string]any{"a": nil}}}))
	got, err := lists.Get(ctx, "k")
	check(err)
	for _, v := range got[0] {
		fmt.Printf("%T %v\n", v, v)
	}
	// Output:
	// int64 1
	// string text
	// pyvalue.Dict [{a <nil>}]
}

// Python reads this store as partd.Pickle(partd.BZ2(partd.Dict())).
func ExamplePickle() {
	compressed, err := compress.New(partd.NewDict(), compress.BZ2, nil)
	check(err)
	lists := encode.New(compressed, encode.Pickle())
	check(lists.Append(ctx, encode.Entry[[]any]{Key: "k", Value: []any{encode.PyTuple{1, 2}, encode.PySet{"x"}}}))
	got, err := lists.Get(ctx, "k")
	check(err)
	for _, v := range got[0] {
		fmt.Printf("%T %v\n", v, v)
	}
	// Output:
	// pyvalue.Tuple [1 2]
	// pyvalue.Set [x]
}

// Python reads this store as partd.Numpy(partd.Dict()).
func ExampleNumPy() {
	dict := partd.NewDict()
	prices := encode.NewNumPy[float64](dict)
	check(prices.Append(ctx, encode.Entry[[]float64]{Key: "AAPL", Value: []float64{1.5, 2.25}}))
	check(prices.Append(ctx, encode.Entry[[]float64]{Key: "AAPL", Value: []float64{3}}))
	got, err := prices.Get(ctx, "AAPL")
	check(err)
	dtype, err := dict.Get(ctx, "AAPL.dtype")
	check(err)
	fmt.Printf("%v %s\n", got[0], dtype[0])
	// Output: [1.5 2.25 3] <f8
}

// A codec consists of three functions. The codec of this example stores counts. Its Join adds up the counts
// that were appended to the same key.
func ExampleValueCodec() {
	counts := encode.ValueCodec[int]{
		Encode: func(dst []byte, n int) ([]byte, error) { return fmt.Append(dst, n), nil },
		Decode: func(data []byte) (n int, err error) { _, err = fmt.Sscan(string(data), &n); return n, err },
		Join: func(pieces []int) (total int, _ error) {
			for _, n := range pieces {
				total += n
			}
			return total, nil
		},
	}
	words := encode.New(partd.NewDict(), counts)
	check(words.Append(ctx, encode.Entry[int]{Key: "the", Value: 2}, encode.Entry[int]{Key: "the", Value: 3}))
	got, err := words.Get(ctx, "the", "never")
	check(err)
	fmt.Println(got)
	// Output: [5 0]
}

// This example stores a DataFrame in the format of Python's partd.PandasBlocks. Python reads it with the same dtypes
// and index.
func ExamplePandasBlocks() {
	frames := encode.New(partd.NewDict(), encode.PandasBlocks(nil))
	day := encode.DataFrame{
		Columns: []encode.Column{
			{Name: "price", Values: []float64{1.5, 2.25}},
			{Name: "venue", Values: encode.Categorical{Codes: []int32{0, 1}, Categories: []any{"XPAR", "XETR"}}},
		},
		Index: encode.Column{Name: "when", Values: encode.Times{Unit: "s", Zone: "Europe/Paris", Counts: []int64{1700000000, 1700000060}}},
	}
	check(frames.Append(ctx, encode.Entry[encode.DataFrame]{Key: "AAPL", Value: day}, encode.Entry[encode.DataFrame]{Key: "AAPL", Value: day}))
	got, err := frames.Get(ctx, "AAPL")
	check(err)
	fmt.Println(got[0].Rows(), got[0].Columns[0].Values, got[0].Columns[1].Values)
	// Output: 4 [1.5 2.25 1.5 2.25] {[0 1 0 1] [XPAR XETR] false}
}
