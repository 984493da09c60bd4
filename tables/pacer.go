package tables

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// pauseFactor is how many times longer than its work a pass of maintenance pauses, so that it uses a third of one core.
const pauseFactor = 2

// pacer divides the time between a pass of maintenance and others.
type pacer struct{ resumed time.Time }

// pause waits in proportion to the time since the last pause.
func (p *pacer) pause(ctx context.Context) error {
	err := canceled.Wait(ctx, time.After(pauseFactor*time.Since(p.resumed)))
	p.resumed = time.Now()
	return err
}

// rows yields batches, with a pause after each.
func (p *pacer) rows(ctx context.Context) func(sorted.Batches) sorted.Batches {
	return func(batches sorted.Batches) sorted.Batches {
		return func(yield func(arrow.RecordBatch, error) bool) {
			for b, err := range batches {
				if !yield(b, err) || err != nil {
					return
				}
				if err := p.pause(ctx); err != nil {
					yield(nil, err)
					return
				}
			}
		}
	}
}
