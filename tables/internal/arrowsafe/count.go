package arrowsafe

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Counted counts the rows that are read.
type Counted struct {
	array.RecordReader
	Rows int64
	Look func(arrow.RecordBatch) // at each batch; nil: not
}

func (c *Counted) Next() bool {
	if !c.RecordReader.Next() {
		return false
	}
	c.Rows += c.RecordBatch().NumRows()
	if c.Look != nil {
		c.Look(c.RecordBatch())
	}
	return true
}
