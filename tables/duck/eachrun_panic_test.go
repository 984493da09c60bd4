//go:build cgo

package duck

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/parted"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestWritePartPanics checks that a panic while the files of a part are written ends the division. It would wait forever
// for a part that nobody has.
func TestWritePartPanics(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "key", Type: arrow.PrimitiveTypes.Int64}}, nil)
	rows := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{tabletest.ParseRows(t, columns, `[{"key":1},{"key":2}]`)}))(t)
	defer rows.Release()
	j := &eachJob{files: scratch{dir: t.TempDir()}} // without the types of the inputs, so that writePart panics
	done := make(chan error, 1)
	go func() {
		done <- parallel.Catch(func() error {
			o := &parted.Options{Memory: 64 << 20, Temp: t.TempDir()}
			return parted.Each(t.Context(), []parted.Input{{Name: "rows", Rows: rows, By: []string{"key"}}}, o, func(ctx context.Context, p *parted.Part) error {
				_, err := j.writePart(ctx, p)
				return err
			})
		})
	}()
	select {
	case err := <-done:
		if !errors.As(err, new(*parallel.Panic)) {
			t.Errorf("error %v, want a panic", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the division does not end")
	}
}
