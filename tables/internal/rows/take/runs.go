package take

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Run is a run of adjacent rows in one of several batches.
type Run struct{ Batch, From, To int }

// Runs returns the rows in runs; rows is their total number. The batches must have the same columns, and each must have
// a run. The caller must release the result.
func Runs(batches []arrow.RecordBatch, runs []Run, rows int) (arrow.RecordBatch, error) {
	parts := make([]arrow.Array, len(batches))
	return MakeBatch(batches[0].Schema(), int64(rows), func(i int) (arrow.Array, error) {
		hasNulls := false
		for j, b := range batches {
			parts[j] = b.Column(i)
			hasNulls = hasNulls || parts[j].NullN() > 0
		}
		gather := concatRuns
		t := parts[0].DataType()
		if fixed, ok := t.(arrow.FixedWidthDataType); t.ID() == arrow.STRING || t.ID() == arrow.BINARY {
			gather = textRuns
		} else if ok && fixed.BitWidth()%8 == 0 && (arrow.IsPrimitive(t.ID()) || arrow.IsDecimal(t.ID())) {
			gather = fixedWidthRuns
		}
		if hasNulls {
			gather = concatRuns
		}
		return gather(parts, runs, rows)
	})
}

// textRuns returns the texts of runs. No text may be null.
func textRuns(parts []arrow.Array, runs []Run, rows int) (arrow.Array, error) {
	starts, texts := make([][]int32, len(parts)), make([][]byte, len(parts))
	for i, a := range parts {
		starts[i] = arrow.GetOffsets[int32](a.Data(), 1)
		if text := a.Data().Buffers()[2]; text != nil {
			texts[i] = text.Bytes()
		}
	}
	size := int64(0)
	for _, r := range runs {
		size += int64(starts[r.Batch][r.To] - starts[r.Batch][r.From])
	}
	if size > math.MaxInt32 {
		return concatRuns(parts, runs, rows) // it returns the error
	}
	offsets, text := make([]int32, 1, rows+1), make([]byte, 0, size)
	for _, r := range runs {
		from := starts[r.Batch][r.From : r.To+1]
		shift := int32(len(text)) - from[0]
		for _, end := range from[1:] {
			offsets = append(offsets, end+shift)
		}
		text = append(text, texts[r.Batch][from[0]:from[len(from)-1]]...)
	}
	return NewArray(parts[0].DataType(), rows, []*memory.Buffer{nil, memory.NewBufferBytes(arrow.GetBytes(offsets)), memory.NewBufferBytes(text)}, nil, 0, 0), nil
}

// fixedWidthRuns returns the values of runs, which have the same number of bytes. No value may be null.
func fixedWidthRuns(parts []arrow.Array, runs []Run, rows int) (arrow.Array, error) {
	width := parts[0].DataType().(arrow.FixedWidthDataType).BitWidth() / 8
	values := make([][]byte, len(parts))
	for i, a := range parts {
		values[i] = a.Data().Buffers()[1].Bytes()[a.Data().Offset()*width:]
	}
	out := make([]byte, 0, rows*width)
	for _, r := range runs {
		out = append(out, values[r.Batch][r.From*width:r.To*width]...)
	}
	return NewArray(parts[0].DataType(), rows, []*memory.Buffer{nil, memory.NewBufferBytes(out)}, nil, 0, 0), nil
}

// concatRuns is like Runs, for one column of any type. It concatenates the rows that it needs from each array.
func concatRuns(arrays []arrow.Array, runs []Run, rows int) (arrow.Array, error) {
	spans := make([]Run, len(arrays))
	for _, r := range runs {
		s := &spans[r.Batch]
		if s.To == 0 {
			*s = r
		}
		s.From, s.To = min(s.From, r.From), max(s.To, r.To)
	}
	parts := make([]arrow.Array, len(arrays))
	offsets := make([]int, len(arrays)) // where row 0 of each array would be in the concatenation
	total := 0
	for i, s := range spans {
		parts[i] = array.NewSlice(arrays[i], int64(s.From), int64(s.To))
		defer parts[i].Release()
		offsets[i] = total - s.From
		total += s.To - s.From
	}
	all, err := array.Concatenate(parts, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	defer all.Release()
	order := make([]int, 0, rows)
	for _, r := range runs {
		for row := r.From; row < r.To; row++ {
			order = append(order, offsets[r.Batch]+row)
		}
	}
	return Rows(all, order)
}
