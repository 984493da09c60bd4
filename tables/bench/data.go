//go:build cgo && unix

package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// trades makes rows of a time, a symbol, a price and a size: the same for the
// same numbers.
func trades(from, n int) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
		{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "size", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	random := rand.New(rand.NewPCG(1, uint64(from)))
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := from; i < from+n; i++ {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1_700_000_000_000_000 + int64(i)*1000))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("S", random.IntN(100)))
		b.Field(2).(*array.Float64Builder).Append(100 * random.Float64())
		b.Field(3).(*array.Int64Builder).Append(int64(random.IntN(1000)))
	}
	return b.NewRecordBatch()
}

// hits makes rows with as many columns as ClickBench's hits has, of its kinds:
// 105, most of them small integers, some texts and times.
func hits(n int) arrow.RecordBatch {
	var fields []arrow.Field
	for i := range 105 {
		f := arrow.Field{Name: fmt.Sprint("c", i), Type: arrow.PrimitiveTypes.Int16}
		switch {
		case i%4 == 0:
			f.Type = arrow.BinaryTypes.String
		case i%21 == 1:
			f.Type = &arrow.TimestampType{Unit: arrow.Microsecond}
		case i%5 == 2:
			f.Type = arrow.PrimitiveTypes.Int64
		case i%5 == 3:
			f.Type = arrow.PrimitiveTypes.Int32
		}
		fields = append(fields, f)
	}
	random := rand.New(rand.NewPCG(2, 0))
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for range n {
		for i := range fields {
			v := random.Int64N(1 << 15)
			switch f := b.Field(i).(type) {
			case *array.Int16Builder:
				f.Append(int16(v))
			case *array.Int32Builder:
				f.Append(int32(v))
			case *array.Int64Builder:
				f.Append(v)
			case *array.TimestampBuilder:
				f.Append(arrow.Timestamp(1_700_000_000_000_000 + v))
			case *array.StringBuilder:
				f.Append(fmt.Sprintf("/page/%d", v))
			}
		}
	}
	return b.NewRecordBatch()
}
