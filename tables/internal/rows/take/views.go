package take

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// viewRows returns the rows of an array of views at indices. If most text in a's buffers belongs to other rows, the
// result has a copy of only its text. Without the copy, each small piece of a batch would keep all of the batch's text
// in memory.
func viewRows(a arrow.Array, indices []int) arrow.Array {
	texts := a.Data().Buffers()[2:]
	views := fixedWidthValues(a, indices, arrow.ViewHeaderSizeBytes)
	headers := arrow.ViewHeaderTraits.CastFromBytes(views.Bytes())
	size, used := 0, 0
	for _, b := range texts {
		size += b.Len()
	}
	for i, row := range indices {
		switch h := &headers[i]; {
		case row < 0 || a.IsNull(row): // its view may point anywhere
			*h = arrow.ViewHeader{}
		case !h.IsInline():
			used += h.Len()
		}
	}
	if used > min(size/2, math.MaxInt32) { // offsets have 32 bits
		return buildRows(a, indices, append([]*memory.Buffer{views}, texts...), nil)
	}
	text := make([]byte, 0, used)
	for i := range headers {
		h := &headers[i]
		if h.IsInline() {
			continue
		}
		from := texts[h.BufferIndex()].Bytes()[h.BufferOffset():]
		h.SetIndexOffset(0, int32(len(text)))
		text = append(text, from[:h.Len()]...)
	}
	return buildRows(a, indices, []*memory.Buffer{views, memory.NewBufferBytes(text)}, nil)
}
