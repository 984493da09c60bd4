package bulk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// EachInput is a sequence of rows with keys. All fields are required.
type EachInput struct {
	Name string
	Rows array.RecordReader
	By   []string // key columns; in all inputs, their number must be the same and their types comparable (see Each)
}

// EachOptions configures [Each].
type EachOptions struct {
	Memory int64 // approximate limit of memory in bytes, excluding the function's memory; 0 means [DefaultMemory]
	// Parts is the number of parts. Parts without rows are omitted. If Parts is 0, the rows of a part take at most an
	// eighth of Memory, unless they all have the same key.
	Parts int
	Temp  string // directory for temporary data; "" means the system's
}

// EachFunc returns the result for a part of the rows. part contains a reader for each input, by the input's name. The
// function must not release these readers. They are valid until the consumer of the results asks for the next result. A
// nil result is skipped.
type EachFunc func(ctx context.Context, part map[string]array.RecordReader) (array.RecordReader, error)

// Each cuts the rows of inputs into parts by the hash of their keys, so that all rows of a key are in one part. It calls
// f for each part, one after another, and yields the results. Parts come in any order. Rows with equal keys keep their
// order. If all inputs are empty, Each calls f once with readers that have no rows.
//
// Keys are equal as in SQL: null equals null, NaN equals NaN, and -0 equals 0. Key columns at the same position can
// have different types that are all integers, all floats, all texts, all binary, or all dates. Decimals need the same
// scale, and timestamps the same unit and time zone. Booleans can also be keys. Other columns can have any type. In
// parts, dictionaries and views are replaced by plain types.
//
// Iterating over the results reads the inputs, so it is possible only once. The consumer must release each result before
// it asks for the next one. An error ends the sequence.
func Each(ctx context.Context, inputs []EachInput, o *EachOptions, f EachFunc) iter.Seq2[array.RecordReader, error] {
	return func(yield func(array.RecordReader, error) bool) {
		errStopped := errors.New("the consumer stopped")
		err := eachPart(ctx, inputs, o, f, func(result array.RecordReader) error {
			if !yield(result, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("bulk: each: %w", err))
		}
	}
}

func eachPart(ctx context.Context, inputs []EachInput, o *EachOptions, f EachFunc, yield func(array.RecordReader) error) error {
	o = cmp.Or(o, new(EachOptions))
	memory, err := memoryLimit(o.Memory)
	if err != nil {
		return err
	}
	sources, names := make([]parted.Input, len(inputs)), map[string]bool{}
	for i, in := range inputs {
		if names[in.Name] {
			return fmt.Errorf("two inputs are named %q", in.Name)
		}
		names[in.Name] = true
		sources[i] = parted.Input(in)
	}
	return parted.Each(ctx, sources, &parted.Options{Memory: memory, Parts: o.Parts, Temp: o.Temp}, func(ctx context.Context, p *parted.Part) error {
		part := map[string]array.RecordReader{}
		for i := range p.Inputs {
			r := batches.Reader(p.Inputs[i].Schema, p.Inputs[i].Read(ctx), func() {})
			defer r.Release()
			part[inputs[i].Name] = r
		}
		result, err := f(ctx, part)
		if err != nil || result == nil {
			return err
		}
		return yield(result)
	})
}
